// Stands in for libFuzzer where the compiler has none: runs a target on the files given, then on seeded mutations of them.
//
// fuzz-TARGET N SEED FILE...: the same arguments give the same inputs. Prints how many inputs were run.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

namespace {

using Random = std::mt19937_64;

/** A number that breaks off-by-ones and overflows more often than one drawn evenly would. */
uint8_t byte_of(Random &random) {
  constexpr uint8_t kTelling[] = {0, 1, 7, 8, 0x22, 0x2c, 0x30, 0x39, 0x5b, 0x7b, 0x7d, 0x7f, 0x80, 0xff};
  return random() % 2 ? kTelling[random() % sizeof kTelling] : static_cast<uint8_t>(random());
}

void change(std::string &data, const std::vector<std::string> &corpus, Random &random) {
  // Headers hold what parsers decide by, so half of all changes hit the first bytes.
  const size_t reach = random() % 2 ? std::min<size_t>(data.size(), 512) : data.size();
  const size_t place = reach ? random() % reach : 0, length = std::min<size_t>(random() % 32, data.size() - place);
  switch (random() % 6) {
    case 0:
      if (!data.empty()) data[place] = static_cast<char>(byte_of(random));
      break;
    case 1:
      if (!data.empty()) data[place] = static_cast<char>(data[place] ^ (1 << random() % 8));
      break;
    case 2:
      data.erase(place, length);
      break;
    case 3:
      data.insert(place, data.substr(place, length));
      break;
    case 4:
      data.resize(random() % 4 ? data.size() - length : place);
      break;
    default: {
      const std::string &other = corpus[random() % corpus.size()];
      if (!other.empty()) data.insert(place, other.substr(random() % other.size(), 1 + random() % 64));
    }
  }
}

void run(const std::string &data) {
  // A copy of exactly this size, so that the address sanitizer sees a read behind its end.
  const std::vector<uint8_t> exact(data.begin(), data.end());
  LLVMFuzzerTestOneInput(exact.data(), exact.size());
}

}  // namespace

int main(int n, char **words) {
  if (n < 4) {
    std::fprintf(stderr, "%s N SEED FILE...\n", words[0]);
    return 3;
  }
  std::vector<std::string> corpus;
  for (int i = 3; i < n; ++i) {
    std::ifstream file(words[i], std::ios::binary);
    corpus.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  }
  for (const std::string &data : corpus) run(data);
  Random random(std::strtoull(words[2], nullptr, 10));
  const unsigned long long inputs = std::strtoull(words[1], nullptr, 10);
  for (unsigned long long i = 0; i < inputs; ++i) {
    std::string data = corpus[random() % corpus.size()];
    for (uint64_t changes = 1 + random() % 4; changes > 0; --changes) change(data, corpus, random);
    run(data);
  }
  std::printf("%llu inputs\n", inputs + corpus.size());
}
