package bgp

import (
	"context"
	"net"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// md5Error returns why this process cannot protect a session with TCP MD5 (RFC 2385), or nil.
//
// GoBGP only logs when it cannot set a key on its listener, and the session then never comes up. It happens on kernels
// without CONFIG_TCP_MD5SIG, and where Go makes listeners multipath TCP sockets, which take no keys: go.mod switches
// that off (godebug multipathtcp=0), but GODEBUG in the environment has the last word.
func md5Error() error {
	var failed error
	config := net.ListenConfig{Control: func(_, _ string, conn syscall.RawConn) error {
		return conn.Control(func(fd uintptr) {
			sig := unix.TCPMD5Sig{Keylen: 1, Key: [80]uint8{'k'}}
			address := (*unix.RawSockaddrInet4)(unsafe.Pointer(&sig.Addr))
			address.Family, address.Addr = unix.AF_INET, [4]byte{127, 0, 0, 1}
			_, _, errno := unix.Syscall6(unix.SYS_SETSOCKOPT, fd, unix.IPPROTO_TCP, unix.TCP_MD5SIG,
				uintptr(unsafe.Pointer(&sig)), unsafe.Sizeof(sig), 0)
			if errno != 0 {
				failed = errno
			}
		})
	}}
	listener, err := config.Listen(context.Background(), "tcp4", "127.0.0.1:0")
	if err != nil {
		return err
	}
	listener.Close()
	return failed
}
