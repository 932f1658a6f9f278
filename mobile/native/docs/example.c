/* Answers a prompt: example BUNDLE PROMPT. Built by: cc example.c -lxpert */
#include <stdio.h>
#include <string.h>
#include <xpert/xpert.h>

static int write_piece(void *user, xpert_text piece) {
  return fwrite(piece.data, 1, piece.size, (FILE *)user) == piece.size ? 0 : 1;
}

int main(int n, char **words) {
  xpert_engine engine = 0;
  char *result = NULL;
  xpert_status status = XPERT_BAD_INPUT;
  if (n == 3) {
    const xpert_text prompt = {words[2], strlen(words[2])};
    status = xpert_open(words[1], NULL, &engine);
    if (status == XPERT_OK) status = xpert_generate(engine, prompt, "{\"max_new_tokens\": 16}", write_piece, stdout, &result);
    if (status == XPERT_OK) printf("\n%s\n", result);
    if (status != XPERT_OK) fprintf(stderr, "%s\n", xpert_last_error());
  } else {
    fprintf(stderr, "example BUNDLE PROMPT\n");
  }
  xpert_free(result);
  xpert_close(engine);
  return (int)status;
}
