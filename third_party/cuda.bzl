"""cuda_library: a C++ library from CUDA sources, by nvcc. Built only where --config=cuda asks for it."""

# GPUs of compute capability 8.0 (A100) and 9.0 (H100), and PTX that later ones compile when they load it.
NVCC = " ".join([
    "/usr/local/cuda/bin/nvcc -std=c++20 -O3 --expt-relaxed-constexpr -lineinfo -I. -I$(GENDIR)",
    "-Xcompiler -Wall,-Wextra -diag-suppress 20012 -Werror all-warnings",
    "-gencode=arch=compute_80,code=sm_80 -gencode=arch=compute_90a,code=sm_90a -gencode=arch=compute_90,code=compute_90",
    "-Xptxas -v",
])

def cuda_library(name, srcs, hdrs = [], deps = [], visibility = None):
    """A library of .cu files.

    Args:
      name: the library.
      srcs: .cu files, each compiled alone; what ptxas says of registers and spills is in FILE.ptxas. The filegroup
        NAME_code has both for each.
      hdrs: every header of the workspace that srcs include.
      deps: cc_library targets.
      visibility: as for cc_library.
    """
    objects = []
    reports = []
    for src in srcs:
        stem = src[:-len(".cu")]
        objects.append(stem + ".cu.o")
        reports.append(stem + ".ptxas")
        native.genrule(
            name = name + "_" + stem.replace("/", "_"),
            srcs = [src] + hdrs,
            outs = [stem + ".cu.o", stem + ".ptxas"],
            cmd = NVCC + " -c $(location " + src + ") -o $(location " + stem + ".cu.o) 2> $(location " + stem +
                  ".ptxas) || { cat $(location " + stem + ".ptxas) >&2; exit 1; }",
            tags = ["manual"],
            visibility = ["//visibility:private"],
        )
    native.filegroup(
        name = name + "_code",
        srcs = objects + reports,
        tags = ["manual"],
        visibility = visibility,
    )
    native.cc_library(
        name = name,
        srcs = objects,
        tags = ["manual"],
        deps = deps + ["@cuda//:runtime"],
        visibility = visibility,
    )
