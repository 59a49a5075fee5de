"""emulated_kernels: a C++ library from CUDA sources, by the C++ compiler, for the emulated GPU of tests/cuda_emulation."""

def emulated_kernels(name, srcs, hdrs = [], deps = [], visibility = None):
    """A library of .cu files.

    Args:
      name: the library.
      srcs: .cu files, each compiled alone.
      hdrs: every header of the workspace that srcs include.
      deps: cc_library targets.
      visibility: as for cc_library.
    """
    sources = []
    for src in srcs:
        source = name + "/" + src[:-len(".cu")].replace("/", "_") + ".cc"
        sources.append(source)
        native.genrule(
            name = source.replace("/", "_").replace(".", "_"),
            outs = [source],
            cmd = "printf '#include \"tests/cuda_emulation/device_code.h\"\\n#include \"%s/%s\"\\n' > $@" %
                  (native.package_name(), src),
            tags = ["manual"],
            visibility = ["//visibility:private"],
        )
    native.cc_library(
        name = name,
        srcs = sources,
        textual_hdrs = srcs + hdrs,
        copts = [
            "-O2",
            "-march=x86-64-v3",
            "-iquotetests/cuda_emulation/include",
            "-Wno-subobject-linkage",
            "-Wno-unknown-pragmas",
            "-Wno-unused-parameter",
        ],
        tags = ["manual"],
        deps = deps + ["//tests/cuda_emulation"],
        visibility = visibility,
    )
