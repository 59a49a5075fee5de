// Texts on their way as one: one behind the other, each as its length in eight bytes (of this machine's order) and its
// bytes. Joined texts joined are the join of all.
//
// Private to this folder.
#pragma once

#include <string>
#include <vector>

namespace trefoil {

std::string JoinTexts(const std::vector<std::string>& texts);
std::vector<std::string> SplitTexts(const std::string& joined);

}  // namespace trefoil
