package bench

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
)

// Self starts this program again with one more variable in its environment and returns what it says: one JSON value. Its
// memory is its own then, and not that of what was measured before.
func Self[T any](ctx context.Context, variable, value string) (said T, err error) {
	self, err := os.Executable()
	if err != nil {
		return said, err
	}
	cmd := exec.CommandContext(ctx, self)
	cmd.Env = append(os.Environ(), variable+"="+value)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return said, fmt.Errorf("the process of its own: %w: %s", err, errs.Bytes())
	}
	if err := json.Unmarshal(out, &said); err != nil {
		return said, fmt.Errorf("the process of its own: %w: %s", err, out)
	}
	return said, nil
}

// Say is the other side of [Self]: it says what a process was started for, and returns its exit code.
func Say[T any](stdout, stderr io.Writer, said T, err error) (exitCode int) {
	if err == nil {
		err = json.NewEncoder(stdout).Encode(said)
	}
	if err != nil {
		fmt.Fprintln(stderr, err)
		return 1
	}
	return 0
}

// PeakResident is the most memory this process had at once. (man 5 proc, VmHWM.)
func PeakResident() (kB int64, err error) {
	status, err := os.Open("/proc/self/status")
	if err != nil {
		return 0, fmt.Errorf("peak memory is measured on Linux only: %w", err)
	}
	defer status.Close()
	for lines := bufio.NewScanner(status); lines.Scan(); {
		if value, ok := strings.CutPrefix(lines.Text(), "VmHWM:"); ok {
			_, err := fmt.Sscanf(value, "%d kB", &kB)
			return kB, err
		}
	}
	return 0, fmt.Errorf("/proc/self/status has no VmHWM")
}
