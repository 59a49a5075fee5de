#include "tests/data/images/image_testing.h"

#include <gtest/gtest.h>
#include <png.h>
#include <unistd.h>
#include <zlib.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>

#include <jpeglib.h>

namespace trefoil {

std::string TestFolder() {
  const std::string folder = testing::TempDir() + "/" + testing::UnitTest::GetInstance()->current_test_info()->name() +
                             std::to_string(getpid());
  EXPECT_TRUE(FileSystem::Posix().MakeFolder(folder).ok());
  return folder;
}

void WriteImageFile(const std::string& path, const ImageFormat& format, const std::vector<LabelledImage>& images) {
  std::vector<int32_t> labels;
  for (const LabelledImage& image : images) labels.push_back(image.label);
  auto writer = ImageFileWriter::Create(FileSystem::Posix(), path, format, labels);
  ASSERT_TRUE(writer.ok()) << writer.status();
  for (const LabelledImage& image : images) ASSERT_TRUE((*writer)->Add(image.values).ok());
  ASSERT_TRUE((*writer)->Finish().ok());
}

Image SmoothImage(int64_t height, int64_t width, int64_t channels) {
  Image image = {.height = height, .width = width, .channels = channels, .values = {}};
  for (int64_t y = 0; y < height; ++y) {
    for (int64_t x = 0; x < width; ++x) {
      for (int64_t c = 0; c < channels; ++c) {
        image.values.push_back(static_cast<uint8_t>(20 + 5 * y % 100 + 3 * x % 100 + 30 * c));
      }
    }
  }
  return image;
}

std::string PngOf(const Image& image) {
  png_image png = {};
  png.version = PNG_IMAGE_VERSION;
  png.width = static_cast<png_uint_32>(image.width);
  png.height = static_cast<png_uint_32>(image.height);
  png.format = image.channels == 1 ? PNG_FORMAT_GRAY : image.channels == 3 ? PNG_FORMAT_RGB : PNG_FORMAT_RGBA;
  png_alloc_size_t bytes = PNG_IMAGE_PNG_SIZE_MAX(png);
  std::string content(bytes, '\0');
  EXPECT_TRUE(png_image_write_to_memory(&png, content.data(), &bytes, 0, image.values.data(), 0, nullptr))
      << png.message;
  content.resize(bytes);
  return content;
}

std::string JpegOf(const Image& image) {
  jpeg_compress_struct state = {};
  jpeg_error_mgr errors;
  state.err = jpeg_std_error(&errors);  // ends the process on an error
  jpeg_create_compress(&state);
  unsigned char* content = nullptr;
  unsigned long bytes = 0;  // libjpeg's type
  jpeg_mem_dest(&state, &content, &bytes);
  state.image_width = static_cast<JDIMENSION>(image.width);
  state.image_height = static_cast<JDIMENSION>(image.height);
  state.input_components = static_cast<int>(image.channels);
  state.in_color_space = image.channels == 1 ? JCS_GRAYSCALE : image.channels == 3 ? JCS_RGB : JCS_CMYK;
  jpeg_set_defaults(&state);
  jpeg_set_quality(&state, 100, TRUE);
  for (int c = 0; c < state.num_components; ++c) {
    state.comp_info[c].h_samp_factor = state.comp_info[c].v_samp_factor = 1;  // colours as fine as brightness
  }
  jpeg_start_compress(&state, TRUE);
  while (state.next_scanline < state.image_height) {
    auto* row = const_cast<uint8_t*>(&image.values[state.next_scanline * image.width * image.channels]);
    jpeg_write_scanlines(&state, &row, 1);
  }
  jpeg_finish_compress(&state);
  jpeg_destroy_compress(&state);
  const std::string result(reinterpret_cast<const char*>(content), bytes);
  free(content);
  return result;
}

namespace {

std::string Big(int64_t value) {
  std::string bytes;
  for (int shift = 24; shift >= 0; shift -= 8) bytes += static_cast<char>(value >> shift);
  return bytes;
}

}  // namespace

std::string IdxImages(int64_t height, int64_t width, const std::vector<LabelledImage>& images) {
  std::string content = Big(0x803) + Big(static_cast<int64_t>(images.size())) + Big(height) + Big(width);
  for (const LabelledImage& image : images) content.append(image.values.begin(), image.values.end());
  return content;
}

std::string IdxLabels(const std::vector<LabelledImage>& images) {
  std::string content = Big(0x801) + Big(static_cast<int64_t>(images.size()));
  for (const LabelledImage& image : images) content += static_cast<char>(image.label);
  return content;
}

std::string Gzip(const std::string& content) {
  z_stream stream = {};
  EXPECT_EQ(deflateInit2(&stream, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
  std::string packed(deflateBound(&stream, content.size()), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(content.data()));
  stream.avail_in = static_cast<uInt>(content.size());
  stream.next_out = reinterpret_cast<Bytef*>(packed.data());
  stream.avail_out = static_cast<uInt>(packed.size());
  EXPECT_EQ(deflate(&stream, Z_FINISH), Z_STREAM_END);
  packed.resize(stream.total_out);
  deflateEnd(&stream);
  return packed;
}

std::string Content(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream out;
  out << in.rdbuf();
  return out.str();
}

void WriteContent(const std::string& path, const std::string& content) {
  std::ofstream(path, std::ios::binary) << content;
}

std::string FromHex(const std::string& hex) {
  std::string bytes, digits;
  for (const char c : hex) {
    if (c != ' ') digits += c;
  }
  for (size_t i = 0; i < digits.size(); i += 2) bytes += static_cast<char>(std::stoi(digits.substr(i, 2), nullptr, 16));
  return bytes;
}

void ExpectError(const absl::Status& status, const std::vector<std::string>& parts) {
  ASSERT_FALSE(status.ok());
  for (const std::string& part : parts) {
    EXPECT_NE(status.message().find(part), std::string::npos) << status << "\nlacks " << part;
  }
}

}  // namespace trefoil
