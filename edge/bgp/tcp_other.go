//go:build !linux

package bgp

import (
	"errors"
	"syscall"
)

func tcpOptions(s Session) func(network, address string, conn syscall.RawConn) error {
	return func(string, string, syscall.RawConn) error {
		if s.Password != "" {
			return errors.New("TCP MD5 is only done on Linux")
		}
		return nil
	}
}
