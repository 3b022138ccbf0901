package lab

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"

	"crossbill/domain"
)

const (
	firstIperfPort = 5201
	iperfReady     = 5 * time.Second
	pingInterval   = "0.02" // seconds

	// iperfWindow bounds what is in flight to fewer frames than the kernel's per-CPU receive queue holds
	// (net.core.netdev_max_backlog, 1000 by default): a frame lost there was counted as sent by the meter and by nobody
	// as received.
	iperfWindow = "128K"
)

var pingReceived = regexp.MustCompile(`(\d+) (?:packets )?received`)

// Ping sends count echo requests from a place, with src as their source, and returns how many replies came. Each reply
// is waited for at most timeout. No route, and no reply, are not errors.
func (l *Lab) Ping(ctx context.Context, place string, src, dst netip.Addr, count int, timeout time.Duration) (received int, err error) {
	wait := strconv.FormatFloat(timeout.Seconds(), 'f', 3, 64)
	command := l.Command(ctx, place, "ping", "-n", "-q", "-c", strconv.Itoa(count), "-i", pingInterval, "-W", wait,
		"-I", src.String(), dst.String())
	var out, said bytes.Buffer
	command.Stdout, command.Stderr = &out, &said
	err = command.Run()
	if found := pingReceived.FindSubmatch(out.Bytes()); found != nil {
		return strconv.Atoi(string(found[1]))
	}
	if strings.Contains(said.String(), "unreachable") {
		return 0, nil
	}
	return 0, domain.Errorf(domain.Unavailable, "lab.Ping", "ping from %s does not run: %w: %s", place, err, strings.TrimSpace(said.String()))
}

// opposite is the same router on the other side.
func opposite(place string) string {
	side, more, further := strings.Cut(place, "/")
	other := map[string]string{"a": "z", "z": "a"}[side]
	if further {
		other += "/" + more
	}
	return other
}

// Iperf moves at least n bytes by TCP from src at a place to dst at the same router on the other side.
func (l *Lab) Iperf(ctx context.Context, place string, src, dst netip.Addr, n int64) (Transfer, error) {
	return l.IperfBetween(ctx, place, src, opposite(place), dst, n)
}

// IperfBetween moves at least n bytes by TCP from src at one place to dst at another.
func (l *Lab) IperfBetween(ctx context.Context, from string, src netip.Addr, to string, dst netip.Addr, n int64) (Transfer, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	port := strconv.Itoa(int(l.iperfPort.Add(1) - 1))
	server := l.Command(ctx, to, "iperf3", "--server", "--one-off", "--forceflush", "--bind", dst.String(), "--port", port)
	if err := startListening(server); err != nil {
		return Transfer{}, domain.Errorf(domain.Unavailable, "lab.Iperf", "the iperf3 server at %s does not start: %w", to, err)
	}
	defer func() {
		cancel()
		_ = server.Wait()
	}()
	client := l.Command(ctx, from, "iperf3", "--client", dst.String(), "--bind", src.String(), "--port", port,
		"--bytes", strconv.FormatInt(n, 10), "--window", iperfWindow, "--json", "--connect-timeout", "5000")
	started := time.Now()
	out, err := client.Output()
	transfer, parseErr := parseIperf(out)
	if err != nil || parseErr != nil {
		return Transfer{}, domain.Errorf(domain.Unavailable, "lab.Iperf", "iperf3 from %s to %s failed (%v): %w", src, dst, err, parseErr)
	}
	transfer.Elapsed = time.Since(started)
	return transfer, nil
}

// startListening starts an iperf3 server and returns when it listens.
func startListening(server *exec.Cmd) error {
	pipe, err := server.StdoutPipe()
	if err != nil {
		return err
	}
	server.Stderr = server.Stdout
	if err := server.Start(); err != nil {
		return err
	}
	listening := make(chan string, 1)
	go func() {
		lines := bufio.NewScanner(pipe)
		var said strings.Builder
		for lines.Scan() {
			if strings.HasPrefix(lines.Text(), "Server listening") {
				listening <- ""
			}
			said.WriteString(lines.Text() + "\n")
		}
		select {
		case listening <- said.String():
		default:
		}
	}()
	select {
	case said := <-listening:
		if said != "" {
			_ = server.Wait()
			return fmt.Errorf("it said: %s", strings.TrimSpace(said))
		}
		return nil
	case <-time.After(iperfReady):
		_ = server.Process.Kill()
		_ = server.Wait()
		return fmt.Errorf("it does not listen after %s", iperfReady)
	}
}

func parseIperf(out []byte) (Transfer, error) {
	var result struct {
		Error string `json:"error"`
		End   struct {
			Sent struct {
				Bytes       int64 `json:"bytes"`
				Retransmits int   `json:"retransmits"`
			} `json:"sum_sent"`
			Received struct {
				Bytes int64 `json:"bytes"`
			} `json:"sum_received"`
		} `json:"end"`
	}
	if err := json.Unmarshal(out, &result); err != nil {
		return Transfer{}, fmt.Errorf("its report cannot be read: %w", err)
	}
	if result.Error != "" {
		return Transfer{}, fmt.Errorf("it said: %s", result.Error)
	}
	return Transfer{
		BytesSent: result.End.Sent.Bytes, BytesReceived: result.End.Received.Bytes, Retransmits: result.End.Sent.Retransmits,
	}, nil
}
