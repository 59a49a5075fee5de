#include "data/images/read_image.h"

#include <absl/strings/str_cat.h>
#include <glog/logging.h>
#include <png.h>

#include <algorithm>
#include <csetjmp>
#include <cstdio>
#include <cstring>
#include <utility>

// After <cstdio>, whose types they use without including it.
#include <jerror.h>
#include <jpeglib.h>

#include "data/images/image_file.h"

namespace trefoil {
namespace {

constexpr std::string_view kPngMagic = "\x89PNG\r\n\x1a\n";
constexpr std::string_view kJpegMagic = "\xff\xd8\xff";

absl::Status CheckSides(const std::string& name, int64_t height, int64_t width) {
  if (std::min(height, width) >= 1 && std::max(height, width) <= ImageFormat::kLargestSide) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(name, ": a picture of ", height, " x ", width, "; sides are 1 to ",
                                                 ImageFormat::kLargestSide, ": make it smaller"));
}

absl::Status Damaged(const std::string& name, const char* format, const char* why) {
  return absl::DataLossError(absl::StrCat(name, ": not a whole ", format, ": ", why));
}

absl::StatusOr<Image> DecodePng(const std::string& name, std::string_view content) {
  png_image png = {};
  png.version = PNG_IMAGE_VERSION;
  // Frees what libpng holds.
  const auto damaged = [&] {
    const absl::Status status = Damaged(name, "PNG", png.message);
    png_image_free(&png);
    return status;
  };
  if (!png_image_begin_read_from_memory(&png, content.data(), content.size())) return damaged();
  if (absl::Status status = CheckSides(name, png.height, png.width); !status.ok()) {
    png_image_free(&png);
    return status;
  }
  png.format = PNG_FORMAT_RGB;
  png.flags |= PNG_IMAGE_FLAG_16BIT_sRGB;  // where such a file says nothing of its gamma
  Image image = {.height = png.height, .width = png.width, .channels = 3, .values = {}};
  image.values.resize(PNG_IMAGE_SIZE(png));
  const png_color white = {255, 255, 255};
  if (!png_image_finish_read(&png, &white, image.values.data(), /*row_stride=*/0, nullptr)) return damaged();
  return image;
}

// What a JPEG is decoded with. libjpeg reports an error by calling OnError, which must not return: it jumps back to
// where `back` was set. So no function between the two may have objects that need destroying.
struct JpegDecoder {
  jpeg_decompress_struct state = {};
  jpeg_error_mgr errors = {};
  std::jmp_buf back;
  char message[JMSG_LENGTH_MAX] = "";

  static JpegDecoder& Of(j_common_ptr state) { return *static_cast<JpegDecoder*>(state->client_data); }

  static void OnError(j_common_ptr state) {
    state->err->format_message(state, Of(state).message);
    std::longjmp(Of(state).back, 1);
  }

  // libjpeg would fill what a broken file lacks with grey, and only warn.
  static void OnMessage(j_common_ptr state, int level) {
    const int code = state->err->msg_code;
    const bool data_missing = code == JWRN_JPEG_EOF || code == JWRN_HIT_MARKER || code == JWRN_HUFF_BAD_CODE;
    if (level < 0 && data_missing) OnError(state);
  }

  // Reads as far as the size. False: see `message`.
  bool Begin(std::string_view content) {
    state.err = jpeg_std_error(&errors);
    state.client_data = this;
    errors.error_exit = OnError;
    errors.emit_message = OnMessage;
    if (setjmp(back) != 0) return false;
    jpeg_create_decompress(&state);
    jpeg_mem_src(&state, reinterpret_cast<const unsigned char*>(content.data()), content.size());
    jpeg_read_header(&state, TRUE);
    state.out_color_space = state.num_components == 4 ? JCS_CMYK : JCS_RGB;
    jpeg_calc_output_dimensions(&state);
    return true;
  }

  // Reads the rows to `values`: output_height x output_width x output_components.
  bool Finish(uint8_t* values) {
    if (setjmp(back) != 0) return false;
    jpeg_start_decompress(&state);
    while (state.output_scanline < state.output_height) {
      JSAMPROW row = values + static_cast<size_t>(state.output_scanline) * state.output_width * state.output_components;
      jpeg_read_scanlines(&state, &row, 1);
    }
    jpeg_finish_decompress(&state);
    return true;
  }

  ~JpegDecoder() { jpeg_destroy_decompress(&state); }
};

// Cyan, magenta, yellow and black, as a share of white where `inverted` (as Adobe's programs write them), to colours.
std::vector<uint8_t> FromCmyk(const std::vector<uint8_t>& values, bool inverted) {
  std::vector<uint8_t> colours;
  colours.reserve(values.size() / 4 * 3);
  const auto white = [&](uint8_t value) { return inverted ? value : 255 - value; };
  for (size_t i = 0; i < values.size(); i += 4) {
    for (size_t c = 0; c < 3; ++c) {
      colours.push_back(static_cast<uint8_t>((white(values[i + c]) * white(values[i + 3]) + 127) / 255));
    }
  }
  return colours;
}

absl::StatusOr<Image> DecodeJpeg(const std::string& name, std::string_view content) {
  JpegDecoder decoder;
  if (!decoder.Begin(content)) return Damaged(name, "JPEG", decoder.message);
  const jpeg_decompress_struct& state = decoder.state;
  TREFOIL_RETURN_IF_ERROR(CheckSides(name, state.output_height, state.output_width));
  Image image = {.height = state.output_height, .width = state.output_width, .channels = 3, .values = {}};
  const auto components = static_cast<size_t>(state.output_components);
  image.values.resize(static_cast<size_t>(image.height * image.width) * components);
  if (!decoder.Finish(image.values.data())) return Damaged(name, "JPEG", decoder.message);
  if (components == 4) image.values = FromCmyk(image.values, state.saw_Adobe_marker);
  return image;
}

void ToGrey(Image& image) {
  const size_t pixels = image.values.size() / 3;
  for (size_t i = 0; i < pixels; ++i) {
    const uint8_t* colour = &image.values[3 * i];
    // Of 2^16, together exactly that: grey stays as it is.
    const uint32_t luma = 19595u * colour[0] + 38470u * colour[1] + 7471u * colour[2] + 32768u;
    image.values[i] = static_cast<uint8_t>(luma >> 16);
  }
  image.values.resize(pixels);
  image.channels = 1;
}

}  // namespace

absl::StatusOr<Image> DecodeImage(const std::string& name, std::string_view content, int64_t channels) {
  CHECK(channels == 1 || channels == 3) << channels;
  const bool png = content.starts_with(kPngMagic), jpeg = content.starts_with(kJpegMagic);
  if (!png && !jpeg) {
    std::string found;
    for (const char c : content.substr(0, kPngMagic.size())) {
      absl::StrAppend(&found, absl::Hex(static_cast<unsigned char>(c), absl::kZeroPad2));
    }
    return absl::InvalidArgumentError(absl::StrCat(
        name, ": not an image: ", found.empty() ? "it is empty" : "begins with bytes " + found,
        "; a PNG begins with 89504e470d0a1a0a, a JPEG with ffd8ff: remove it, or convert it to one of these"));
  }
  TREFOIL_ASSIGN_OR_RETURN(Image image, png ? DecodePng(name, content) : DecodeJpeg(name, content));
  if (channels == 1) ToGrey(image);
  return image;
}

absl::StatusOr<Image> ReadImage(FileSystem& fs, const std::string& path, int64_t channels) {
  TREFOIL_ASSIGN_OR_RETURN(const std::string content, ReadFile(fs, path));
  return DecodeImage(path, content, channels);
}

}  // namespace trefoil
