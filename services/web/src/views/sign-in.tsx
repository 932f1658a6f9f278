import { useState } from "preact/hooks";
import { token, type ApiError } from "../api";

export function SignIn({ reason, done }: { reason: ApiError; done: () => void }) {
  const [value, setValue] = useState("");
  const had = token.get() !== null;
  const submit = (event: Event) => {
    event.preventDefault();
    token.set(value.trim());
    done();
  };
  return (
    <section class="sign-in card">
      <h1>{had ? "This token does not do" : "Who asks?"}</h1>
      <p>{had ? reason.message : "This server shows its pLLMs to those who have a token."}</p>
      <form onSubmit={submit}>
        <label for="token">Token</label>
        <div class="together">
          <input
            id="token"
            type="password"
            autocomplete="off"
            spellcheck={false}
            required
            value={value}
            onInput={(event) => setValue(event.currentTarget.value)}
          />
          <button type="submit" class="main">
            Go on
          </button>
        </div>
        <p class="quiet">
          Kept in this tab until you close it. An administrator makes tokens with the scope <code>read</code>.
        </p>
      </form>
    </section>
  );
}
