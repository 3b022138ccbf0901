package lab

// The objects are committed; see edge/datapath/generate.go for what making them again needs.
//go:generate go tool bpf2go -go-package lab -tags linux -target bpfel,bpfeb tagger bpf/tagger.c -- -O2 -g -Wall -Wextra -Werror -idirafter /usr/include/x86_64-linux-gnu -idirafter /usr/include/aarch64-linux-gnu
