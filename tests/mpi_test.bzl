"""mpi_test: a GoogleTest binary run on N MPI ranks as one Bazel test."""

def mpi_test(name, ranks, srcs, deps = [], data = [], tags = [], **kwargs):
    """Builds srcs and runs them under mpirun; every rank runs every test, and any rank's failure fails the test.

    Args:
      name: the test.
      ranks: number of MPI ranks, or a list of numbers: one test NAME_N each.
      srcs: sources, without a main: tests/mpi_main.cc supplies it.
      deps: libraries.
      data: files that the test reads.
      tags: besides that it takes two cores, so that it runs alone where there are no more.
      **kwargs: passed to sh_test (size, tags ...).
    """
    native.cc_binary(
        name = name + "_binary",
        testonly = True,
        srcs = srcs,
        deps = deps + ["//tests:mpi_main"],
    )
    for n in ranks if type(ranks) == "list" else [ranks]:
        native.sh_test(
            name = "%s_%d" % (name, n) if type(ranks) == "list" else name,
            srcs = ["//tests:mpi_run.sh"],
            args = [str(n), "$(rootpath :%s_binary)" % name],
            data = data + [":" + name + "_binary"],
            tags = tags + ["cpu:2"],
            **kwargs
        )
