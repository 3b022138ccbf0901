package datapath

// The objects are committed, so that a build needs no C compiler. To make them again: clang, llvm-strip and the headers
// of libbpf and Linux 6.6 or later (Debian: clang llvm libbpf-dev linux-libc-dev). Both directories named after -idirafter
// hold asm/types.h, each on its own architecture.
//go:generate sh -c "clang --version | head -n 1 > clang-version"
//go:generate go tool bpf2go -go-package datapath -tags linux -target bpfel,bpfeb -type wire -type attachment -type tally -type meter -type bucket -type recent -type node datapath bpf/datapath.c -- -O2 -g -mcpu=v3 -Wall -Wextra -Werror -idirafter /usr/include/x86_64-linux-gnu -idirafter /usr/include/aarch64-linux-gnu
