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
	started := time.Now()
	report, err := l.iperf(ctx, from, src, to, dst, "--bytes", strconv.FormatInt(n, 10), "--window", iperfWindow)
	if err != nil {
		return Transfer{}, err
	}
	return Transfer{
		BytesSent: report.End.Sent.Bytes, BytesReceived: report.End.Received.Bytes, Retransmits: report.End.Sent.Retransmits,
		Elapsed: time.Since(started),
	}, nil
}

// Throughput moves what TCP can in some time, and returns what arrived of it: 10⁶ bits of payload a second.
func (l *Lab) Throughput(ctx context.Context, from string, src netip.Addr, to string, dst netip.Addr, duration time.Duration) (mbps float64, err error) {
	report, err := l.iperf(ctx, from, src, to, dst, "--time", strconv.Itoa(int(duration.Seconds())))
	return report.End.Received.BitsPerSecond / 1e6, err
}

// iperfReport is what is read of an iperf3 client's report.
type iperfReport struct {
	Error string `json:"error"`
	End   struct {
		Sent struct {
			Bytes       int64 `json:"bytes"`
			Retransmits int   `json:"retransmits"`
		} `json:"sum_sent"`
		Received struct {
			Bytes         int64   `json:"bytes"`
			BitsPerSecond float64 `json:"bits_per_second"`
		} `json:"sum_received"`
	} `json:"end"`
}

func (l *Lab) iperf(ctx context.Context, from string, src netip.Addr, to string, dst netip.Addr, more ...string) (report iperfReport, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	port := strconv.Itoa(int(l.iperfPort.Add(1) - 1))
	server := l.Command(ctx, to, "iperf3", "--server", "--one-off", "--forceflush", "--bind", dst.String(), "--port", port)
	if err := startListening(server); err != nil {
		return report, domain.Errorf(domain.Unavailable, "lab.Iperf", "the iperf3 server at %s does not start: %w", to, err)
	}
	defer func() {
		cancel()
		_ = server.Wait()
	}()
	args := append([]string{"--client", dst.String(), "--bind", src.String(), "--port", port, "--json", "--connect-timeout", "5000"}, more...)
	out, err := l.Command(ctx, from, "iperf3", args...).Output()
	parseErr := json.Unmarshal(out, &report)
	if parseErr == nil && report.Error != "" {
		parseErr = fmt.Errorf("it said: %s", report.Error)
	}
	if err != nil || parseErr != nil {
		return report, domain.Errorf(domain.Unavailable, "lab.Iperf", "iperf3 from %s to %s failed (%v): %w", src, dst, err, parseErr)
	}
	return report, nil
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
