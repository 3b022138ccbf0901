package invoice

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"
)

// EvidenceDigest returns one digest for all the evidence of a line: SHA-256, in lower-case hexadecimal, over a line
// "stream from_version to_version count digest\n" for each range in order.
func EvidenceDigest(evidence []Evidence) string {
	h := sha256.New()
	for _, e := range evidence {
		line := e.Stream
		for _, n := range []int64{e.FromVersion, e.ToVersion, int64(e.Count)} {
			line += " " + strconv.FormatInt(n, 10)
		}
		h.Write([]byte(line + " " + e.Digest + "\n"))
	}
	return hex.EncodeToString(h.Sum(nil))
}
