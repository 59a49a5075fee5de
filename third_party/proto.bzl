"""cc_proto: a C++ library from one .proto file, by Debian's protoc."""

def cc_proto(name, src, deps = [], visibility = None):
    """Generates src's .pb.h and .pb.cc; include them by the proto's path from the workspace root.

    Args:
      name: the library.
      src: the .proto file, in this package.
      deps: cc_proto libraries of the files that src imports; each must also give a filegroup NAME_src.
      visibility: as for cc_library.
    """
    stem = src[:-len(".proto")]
    native.filegroup(
        name = name + "_src",
        srcs = [src] + [dep + "_src" for dep in deps],
        visibility = visibility,
    )
    native.genrule(
        name = name + "_protoc",
        srcs = [":" + name + "_src"],
        outs = [stem + ".pb.h", stem + ".pb.cc"],
        cmd = "protoc --proto_path=. --cpp_out=$(GENDIR) " + native.package_name() + "/" + src,
        visibility = ["//visibility:private"],
    )
    native.cc_library(
        name = name,
        srcs = [stem + ".pb.cc"],
        hdrs = [stem + ".pb.h"],
        copts = ["-Wno-unused-parameter"],
        deps = deps + ["@system//:protobuf"],
        visibility = visibility,
    )
