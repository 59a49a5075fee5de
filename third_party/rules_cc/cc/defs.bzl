"""The native C++ rules under the names that Bazel 4's built-in repositories load."""

cc_library = native.cc_library
cc_binary = native.cc_binary
cc_test = native.cc_test
cc_import = native.cc_import
cc_toolchain = native.cc_toolchain
cc_toolchain_suite = native.cc_toolchain_suite
cc_proto_library = native.cc_proto_library
objc_library = native.objc_library
fdo_profile = native.fdo_profile

def cc_flags_supplier(**_kwargs):
    pass

def compiler_flag(**_kwargs):
    pass
