#include "runtime/version.h"

#include <elf.h>
#include <glog/logging.h>
#include <link.h>

#include <cstring>

namespace trefoil {
namespace {

constexpr size_t kShownBytes = 8;

size_t RoundUp(size_t n) { return (n + 3) / 4 * 4; }

// A note segment := { u32 name size | u32 content size | u32 type | name | content }, both padded to 4 bytes.
std::string BuildIdIn(const char* note, const char* end) {
  while (note + sizeof(ElfW(Nhdr)) <= end) {
    ElfW(Nhdr) head;
    std::memcpy(&head, note, sizeof(head));
    const char* name = note + sizeof(head);
    const char* content = name + RoundUp(head.n_namesz);
    if (head.n_type == NT_GNU_BUILD_ID && head.n_namesz == sizeof(ELF_NOTE_GNU) &&
        std::memcmp(name, ELF_NOTE_GNU, sizeof(ELF_NOTE_GNU)) == 0) {
      return std::string(content, head.n_descsz);
    }
    note = content + RoundUp(head.n_descsz);
  }
  return "";
}

// Called for the program itself first, then for its shared libraries.
int TakeFromProgram(dl_phdr_info* info, size_t, void* id) {
  for (int i = 0; i < info->dlpi_phnum; ++i) {
    const ElfW(Phdr)& segment = info->dlpi_phdr[i];
    if (segment.p_type != PT_NOTE) continue;
    const auto* begin = reinterpret_cast<const char*>(info->dlpi_addr + segment.p_vaddr);
    const std::string found = BuildIdIn(begin, begin + segment.p_memsz);
    if (!found.empty()) *static_cast<std::string*>(id) = found;
  }
  return 1;  // no further
}

}  // namespace

std::string BuildId() {
  std::string id;
  dl_iterate_phdr(TakeFromProgram, &id);
  CHECK_GE(id.size(), kShownBytes) << "linked without --build-id";
  std::string digits;
  for (const unsigned char byte : id.substr(0, kShownBytes)) {
    digits += "0123456789abcdef"[byte >> 4];
    digits += "0123456789abcdef"[byte & 15];
  }
  return digits;
}

std::string VersionText() { return "build " + BuildId() + " (GCC " __VERSION__ ")"; }

}  // namespace trefoil
