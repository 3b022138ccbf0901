//go:build !linux

package bgp

import "errors"

func md5Error() error { return errors.New("TCP MD5 is only done on Linux") }
