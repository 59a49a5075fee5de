#include "data/text/corpus.h"

#include <gtest/gtest.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <random>

#include "runtime/files/file.h"

namespace trefoil {
namespace {

std::string Folder() {
  const std::string folder = testing::TempDir() + "/" + testing::UnitTest::GetInstance()->current_test_info()->name() +
                             std::to_string(getpid());
  EXPECT_TRUE(FileSystem::Posix().MakeFolder(folder).ok());
  return folder;
}

std::string Write(const std::string& path, const std::string& content) {
  std::ofstream(path, std::ios::binary) << content;
  return path;
}

std::string Gzip(const std::string& text) {
  z_stream stream = {};
  EXPECT_EQ(deflateInit2(&stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
  std::string out(deflateBound(&stream, text.size()), 0);
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = text.size();
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = out.size();
  EXPECT_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

std::string Zstd(const std::string& text) {
  std::string out(ZSTD_compressBound(text.size()), 0);
  out.resize(ZSTD_compress(out.data(), out.size(), text.data(), text.size(), 3));
  return out;
}

// Lines and paragraphs of random lengths, about `bytes` of them.
std::string RandomText(size_t bytes, unsigned seed, unsigned blank = 6) {
  std::minstd_rand random(seed);
  std::string text;
  while (text.size() < bytes) {
    text += std::string(1 + random() % 9, 'a' + random() % 26);
    const unsigned choice = random() % 40;
    text += choice < blank ? "\n\n" : choice < 9 ? "\n" : choice == 9 ? "\r\n\r\n" : choice == 10 ? "\xc3\xa9" : " ";
  }
  return text;
}

struct Read {
  std::vector<std::string> documents;
  std::vector<std::string> blocks;
  absl::Status status;
};

Read ReadSlices(const std::string& path, int64_t slice_bytes, int64_t block_bytes, bool any_bytes = false) {
  Read read;
  auto slices = SliceInputs({path}, slice_bytes);
  EXPECT_TRUE(slices.ok()) << slices.status();
  double done = 0;
  for (const TextSlice& slice : *slices) {
    std::string document;
    done = 0;
    read.status = ReadSlice(slice, block_bytes, any_bytes, [&](const TextBlock& block) {
      read.blocks.emplace_back(block.text);
      document += block.text;
      EXPECT_GE(block.slice_done, done);
      EXPECT_LE(block.slice_done, 1);
      done = block.slice_done;
      if (block.ends_document) read.documents.push_back(std::exchange(document, ""));
      return absl::OkStatus();
    });
    if (!read.status.ok()) break;
    EXPECT_EQ(document, "") << "a document has no end";
  }
  return read;
}

std::string Joined(const std::vector<std::string>& parts) {
  std::string all;
  for (const std::string& part : parts) all += part;
  return all;
}

TEST(ExpandInputs, PatternsFoldersAndSuffixes) {
  const std::string folder = Folder();
  for (const char* name : {"a.txt", "b.txt", "c.jsonl", "d.jsonl.gz", "e.txt.zst", "f.md"})
    Write(folder + "/" + name, "x");
  auto expand = [&](const std::vector<std::string>& inputs) {
    auto paths = ExpandInputs(inputs);
    EXPECT_TRUE(paths.ok()) << paths.status();
    std::string names;
    for (const std::string& path : *paths) names += path.substr(folder.size() + 1) + " ";
    return names;
  };
  EXPECT_EQ(expand({folder + "/*.txt"}), "a.txt b.txt ");
  EXPECT_EQ(expand({folder + "/*.txt|*.jsonl"}), "a.txt b.txt c.jsonl ");
  EXPECT_EQ(expand({folder + "/*.txt|*.jsonl[.gz|.zst]"}), "a.txt b.txt c.jsonl d.jsonl.gz e.txt.zst ");
  EXPECT_EQ(expand({folder + "/f.md", folder + "/f.*", folder + "/a.txt"}), "a.txt f.md ");
  for (const char* absent : {"/*.csv", "/g.txt"}) {
    auto paths = ExpandInputs({folder + "/*.txt", folder + absent});
    ASSERT_FALSE(paths.ok());
    EXPECT_NE(paths.status().message().find(folder + absent), std::string::npos) << paths.status();
  }
  EXPECT_FALSE(ExpandInputs({}).ok());
}

TEST(ExpandInputs, AFolderIsAnsweredWithItsFiles) {
  const std::string folder = Folder();
  EXPECT_EQ(ExpandInputs({folder}).status().message(), "input: " + folder + ": a folder without a file; name files");
  for (const char* name : {"a.md", "b.jsonl", "c.txt", "d.txt"}) Write(folder + "/" + name, "x");
  for (const std::string& input : {folder, folder + "/", folder + "//"}) {
    EXPECT_EQ(ExpandInputs({input}).status().message(),
              "input: " + folder + ": a folder; name files, such as the 2 of '" + folder + "/*.txt'");
  }
}

TEST(ExpandInputs, ANameThatIsThereIsThatFile) {
  const std::string folder = Folder();
  for (const char* name : {"x[1].txt", "x1.txt", "a|b.txt", "c*.txt", "cd.txt"}) Write(folder + "/" + name, "x");
  for (const char* name : {"/x[1].txt", "/a|b.txt", "/c*.txt"}) {
    const auto paths = ExpandInputs({folder + name});
    ASSERT_TRUE(paths.ok()) << paths.status();
    EXPECT_EQ(*paths, std::vector<std::string>{folder + name});
  }
  const auto both = ExpandInputs({folder + "/x[1].txt|x1.txt"});
  ASSERT_TRUE(both.ok()) << both.status();
  EXPECT_EQ(both->size(), 2u);
}

// What is taken for text by its name and is none.
TEST(Corpus, WhatIsNotTextIsRefusedUnlessAsked) {
  const std::string folder = Folder();
  std::string latin1, utf16, binary, mended;
  for (int i = 0; i < 40000; ++i) {
    latin1 += i % 40 == 17 ? '\xe9' : "words and "[i % 10];
    utf16 += "words and "[i % 10];
    utf16 += '\0';
    binary += i % 5 == 0 ? static_cast<char>(i * 7919 >> 3) : '\0';
    mended += i == 20000 ? '\xe9' : "words and "[i % 10];
  }
  struct Case {
    std::string text;
    std::vector<const char*> parts;
  };
  for (const Case& c :
       {Case{latin1, {": 2.5% of ", "bytes are not UTF-8 (the first is 0xe9)", "iconv -f LATIN1", "--allow_binary"}},
        Case{utf16, {"not text", "are NUL, as in UTF-16 (iconv -f UTF-16LE", "--allow_binary"}},
        Case{"\xff\xfe" + utf16, {"not text", "begins with the mark of UTF-16", "--allow_binary"}},
        Case{binary, {"not text", "are NUL, as in binary files", "--allow_binary"}}}) {
    for (const char* name : {"/x.txt", "/x.csv"}) {
      const std::string path = Write(folder + name, c.text);
      const Read read = ReadSlices(path, INT64_MAX, 1000);
      ASSERT_FALSE(read.status.ok());
      EXPECT_EQ(read.status.message().find(path + ": "), 0u) << read.status;
      for (const char* part : c.parts) {
        EXPECT_NE(read.status.message().find(part), std::string::npos) << read.status << "\nlacks " << part;
      }
      const Read asked = ReadSlices(path, INT64_MAX, 1000, /*any_bytes=*/true);
      ASSERT_TRUE(asked.status.ok()) << asked.status;
      EXPECT_TRUE(Joined(asked.blocks) == c.text) << "nothing is lost";
    }
  }
  // A stray byte is no reason, and neither is an accent of two bytes at any place.
  EXPECT_TRUE(ReadSlices(Write(folder + "/m.txt", mended), INT64_MAX, 1000).status.ok());
  std::string accents;
  for (int i = 0; i < 30000; ++i) accents += i % 3 == 0 ? "\xc3\xa9" : "\xe4\xb8\x89";
  for (const int64_t slice_bytes : {int64_t{3001}, INT64_MAX}) {
    EXPECT_TRUE(ReadSlices(Write(folder + "/a.txt", accents), slice_bytes, 100).status.ok()) << slice_bytes;
  }
}

TEST(Corpus, TextIsOneDocumentWhateverTheBlocks) {
  const std::string folder = Folder();
  const std::string long_line = std::string(300, 'q') + "\xe2\x82\xac" + std::string(900, 'r');
  for (const std::string& text : {std::string(), std::string("\n"), std::string("\n\n\n"), std::string("no end"),
                                  RandomText(5000, 1), RandomText(3000000, 2), RandomText(5000, 3, 0), long_line}) {
    const std::string path = Write(folder + "/x.txt", text);
    for (int64_t block_bytes : {1, 10, 100, 5000, 10000000}) {
      if (text.size() > 100000 && block_bytes < 100) continue;
      const Read read = ReadSlices(path, INT64_MAX, block_bytes);
      ASSERT_TRUE(read.status.ok()) << read.status;
      ASSERT_EQ(read.documents.size(), 1u);
      EXPECT_TRUE(read.documents[0] == text) << text.size() << " " << block_bytes;
      for (size_t i = 0; i + 1 < read.blocks.size(); ++i) {
        EXPECT_GE(static_cast<int64_t>(read.blocks[i].size()), block_bytes);
        EXPECT_LE(static_cast<int64_t>(read.blocks[i].size()), 8 * block_bytes + 4);
      }
    }
  }
}

TEST(Corpus, BlocksEndAtBlankLinesThenNewlinesThenCharacters) {
  const std::string folder = Folder();
  const std::string path = Write(folder + "/x.txt", "aaaa\nbbbb\n\n\ncc\n\nddddd\n\r\ne");
  EXPECT_EQ(ReadSlices(path, INT64_MAX, 6).blocks,
            (std::vector<std::string>{"aaaa\nbbbb\n\n\n", "cc\n\nddddd\n\r\n", "e"}));
  Write(path, "aaaaaaaaaaaaaaaa\nb\ncccc");
  EXPECT_EQ(ReadSlices(path, INT64_MAX, 3).blocks, (std::vector<std::string>{"aaaaaaaaaaaaaaaa\n", "b\ncccc"}));
  Write(path, "aaaaaaa\xe2\x82\xac" "aaaaa");
  EXPECT_EQ(ReadSlices(path, INT64_MAX, 1).blocks[0], "aaaaaaa");
  // Blank lines that reach over the end of what is read at once, 1 MiB, stay together.
  const std::string million((1 << 20) - 2, 'a');
  Write(path, million + "\n\n\n\nb");
  EXPECT_EQ(ReadSlices(path, INT64_MAX, 1 << 19).blocks.back(), "b");
}

TEST(Corpus, SlicesTileTheFile) {
  const std::string folder = Folder();
  const std::string text = RandomText(3000, 4);
  const std::string path = Write(folder + "/x.txt", text);
  for (int64_t slice_bytes : {1, 7, 100, 500, 1333, 2999, 3005, 30000}) {
    const Read read = ReadSlices(path, slice_bytes, 50);
    ASSERT_TRUE(read.status.ok());
    EXPECT_TRUE(Joined(read.documents) == text) << slice_bytes;
    for (size_t i = 0; i + 1 < read.documents.size(); ++i) EXPECT_EQ(read.documents[i].back(), '\n');
  }
  EXPECT_GT(ReadSlices(path, 150, 50).documents.size(), 15u);
  // Without blank lines within a megabyte.
  const std::string lines = RandomText(5000000, 5, 0);
  std::string unbroken = lines;
  std::replace(unbroken.begin(), unbroken.end(), '\n', ' ');
  for (const std::string& hard : {lines, unbroken}) {
    Write(path, hard);
    const Read read = ReadSlices(path, 700000, 16384);
    EXPECT_TRUE(Joined(read.documents) == hard);
    EXPECT_GT(read.documents.size(), 3u);
  }
}

TEST(Corpus, JsonLinesAreDocuments) {
  const std::string folder = Folder();
  std::string content = "\xef\xbb\xbf";
  std::vector<std::string> texts;
  for (int i = 0; i < 200; ++i) {
    texts.push_back(i % 17 == 0 ? "" : RandomText(1 + i * 7 % 300, i) + "\"quoted\" \t \xf0\x9f\x8d\x80 {\"text\": 1}");
    nlohmann::json line = {
        {"id", i}, {"text", texts.back()}, {"meta", {{"text", "not this"}, {"list", {1, "text", nullptr}}}}};
    content += line.dump() + (i % 5 == 0 ? "\r\n" : i % 7 == 0 ? "\n\n  \n" : "\n");
  }
  content.pop_back();
  const std::string path = Write(folder + "/x.jsonl", content);
  for (int64_t slice_bytes : {70, 300, 1000, 1000000}) {
    for (int64_t block_bytes : {20, 1000}) {
      const Read read = ReadSlices(path, slice_bytes, block_bytes);
      ASSERT_TRUE(read.status.ok()) << read.status;
      EXPECT_EQ(read.documents, texts) << slice_bytes;
    }
  }
  Write(folder + "/y.jsonl", "{\"text\": \"\\u00e9\\ud83c\\udf40\\n\"}");
  EXPECT_EQ(ReadSlices(folder + "/y.jsonl", 100, 10).documents, std::vector<std::string>{"\xc3\xa9\xf0\x9f\x8d\x80\n"});
}

TEST(Corpus, BadJsonLinesAreLocated) {
  const std::string folder = Folder();
  const std::string path = folder + "/bad.jsonl";
  auto expect = [&](const std::string& line, const char* rule) {
    Write(path, "{\"text\": \"fine\"}\n\n{\"text\": \"also\"}\n" + line + "\n{\"text\": \"more\"}\n");
    for (int64_t slice_bytes : {1000, 12}) {  // in slices too the line is counted from the front of the file
      const Read read = ReadSlices(path, slice_bytes, 100);
      ASSERT_FALSE(read.status.ok()) << line;
      for (const std::string& part : {path, std::string("line 4: "), std::string(rule)}) {
        EXPECT_NE(read.status.message().find(part), std::string::npos) << read.status << "\nlacks " << part;
      }
      EXPECT_EQ(read.documents.size(), 2u);
    }
  };
  expect("{\"text\": \"cut", "broken JSON");
  expect("{\"text\": \"a\"} {", "broken JSON");
  expect("plain text", "broken JSON");
  expect("{\"text\": \"\xff\"}", "broken JSON");
  expect("{\"title\": \"a\"}", "no field \"text\"");
  expect("{\"meta\": {\"text\": \"a\"}}", "no field \"text\"");
  expect("{\"text\": 5}", "field \"text\" is a number; it is a string");
  expect("{\"text\": [\"a\"]}", "field \"text\" is an array");
  expect("[{\"text\": \"a\"}]", "is an array; a line is a JSON object");
  expect("\"text\"", "is a string; a line is a JSON object");
}

TEST(Corpus, CompressedFilesReadTheSame) {
  const std::string folder = Folder();
  const std::string one = RandomText(2500000, 8), two = RandomText(1000, 9);
  const std::string noise = [] {  // does not compress: larger than its buffers when stored
    std::mt19937 random(3);
    std::string bytes;
    for (int i = 0; i < 700000; ++i) bytes += static_cast<char>('A' + random() % 64);
    return bytes;
  }();
  for (const std::string& text : {one, noise, std::string()}) {
    for (const std::string& second : {two, std::string()}) {
      Write(folder + "/x.txt.gz", Gzip(text) + Gzip(second));
      Write(folder + "/x.txt.zst", Zstd(text) + Zstd(second));
      for (const char* name : {"/x.txt.gz", "/x.txt.zst"}) {
        const Read read = ReadSlices(folder + name, 1000, 16384, /*any_bytes=*/true);
        ASSERT_TRUE(read.status.ok()) << read.status;
        ASSERT_EQ(read.documents.size(), 1u);
        EXPECT_TRUE(read.documents[0] == text + second) << name;
      }
    }
  }
  Write(folder + "/x.jsonl.gz", Gzip("{\"text\": \"a\"}\n{\"text\": \"b\"}\n"));
  EXPECT_EQ(ReadSlices(folder + "/x.jsonl.gz", 1, 10).documents, (std::vector<std::string>{"a", "b"}));
}

TEST(Corpus, CutOrBrokenCompressedFilesAreNamed) {
  const std::string folder = Folder();
  const std::string text = RandomText(3000, 10);
  for (const bool gzip : {true, false}) {
    const std::string path = folder + (gzip ? "/x.txt.gz" : "/x.txt.zst");
    const std::string whole = gzip ? Gzip(text) : Zstd(text);
    for (size_t bytes = 1; bytes < whole.size(); bytes += 1 + bytes / 10) {
      Write(path, whole.substr(0, bytes));
      const Read read = ReadSlices(path, 1000, 100);
      ASSERT_FALSE(read.status.ok()) << path << " " << bytes;
      EXPECT_NE(read.status.message().find(path + ": cut short"), std::string::npos) << read.status;
    }
    Write(path, "plain text, not compressed");
    EXPECT_NE(ReadSlices(path, 1000, 100).status.message().find(path + ": not valid"), std::string::npos);
  }
  std::string flipped = Gzip(text);
  flipped[flipped.size() - 6] ^= 1;  // in the checksum
  Write(folder + "/x.txt.gz", flipped);
  EXPECT_NE(ReadSlices(folder + "/x.txt.gz", 1000, 100).status.message().find("not valid gzip"), std::string::npos);
}

}  // namespace
}  // namespace trefoil
