// Which program this is: the linker's build id, a hash of everything in the binary. Two ranks that print the same id run
// the same machine code; a change of code, compiler, flags or of a library that is linked in gives another id. It needs
// neither git nor the network, when building or when running.
//
//   VersionText();    // "build 3f9a1c0b5d7e2468 (GCC 12.2.0)"
//
// Threads: any.
#pragma once

#include <string>

namespace trefoil {

// The first 16 hexadecimal digits of this program's build id (the ELF note NT_GNU_BUILD_ID).
std::string BuildId();

// The build id and the compiler: one line for people, without its end.
std::string VersionText();

}  // namespace trefoil
