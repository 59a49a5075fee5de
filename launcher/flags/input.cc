#include "launcher/flags/input.h"

#include <gflags/gflags.h>

DEFINE_string(
    input, "",
    "Of tokenize, text files: paths or patterns separated by '|', as 'DIR/*.txt|*.jsonl[.gz|.zst]'; more may follow as "
    "plain words. A .txt is a document, so is each line's field \"text\" in a .jsonl. Of images, a folder that has for "
    "each class a folder of its name, with PNG and JPEG files. Of predict, texts or images to predict for; more may "
    "follow as plain words; - is standard input.");
