#!/bin/sh
# mpi_run.sh RANKS PROGRAM: runs PROGRAM on RANKS ranks of this machine, more ranks than cores allowed.
ranks=$1
shift
exec mpirun --oversubscribe --bind-to none --mca mpi_yield_when_idle 1 --mca btl self,vader -n "$ranks" "$@"
