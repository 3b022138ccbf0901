package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"crossbill/api/client"
	"crossbill/domain"
)

// Of a watch.
const (
	reconnectPause = time.Second // after a stream that broke off
	maxEventLine   = 4 << 20     // bytes of one event in a stream
)

// watches are the commands that follow something, by noun. They are not of the contract's operations but made of them.
func watches(s *settings) map[string]*cobra.Command {
	return map[string]*cobra.Command{
		"orders":      watchThing(s, "order", "ORDER_ID", "/v1/orders/", "completed", "rejected", "failed", "cancelled"),
		"connections": watchThing(s, "connection", "CONNECTION_ID", "/v1/connections/", "decommissioned", "archived", "cancelled"),
		"events":      watchEvents(s),
	}
}

// watchThing follows one thing until it is in a state that it never leaves, or the user has seen enough.
func watchThing(s *settings, what, argument, path string, final ...string) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "watch " + argument,
		Short: "Follow one " + what + " until nothing can happen to it any more",
		Long:  "Writes the state of the " + what + ", then everything that happens to it, as it happens. It ends with the " + what + "'s last state: " + strings.Join(final, ", ") + ".",
		Args:  cobra.ExactArgs(1),
	}
	until := cmd.Flags().StringSlice("until", final, "end in one of these states")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c, err := s.connect()
		if err != nil {
			return err
		}
		// The stream is read from where the log stood before the thing was looked at, so that nothing falls in between.
		after, err := c.logPosition(cmd.Context())
		if err != nil {
			return err
		}
		last := ""
		look := func() (done bool, err error) {
			thing, err := c.get(cmd.Context(), path+url.PathEscape(args[0]))
			if err != nil {
				return false, err
			}
			if thing.State != last {
				last = thing.State
				if err := c.show(cmd, time.Now(), thing.State, thing.Reason, thing.raw); err != nil {
					return false, err
				}
			}
			for _, state := range *until {
				if thing.State == state {
					return true, nil
				}
			}
			return false, nil
		}
		if done, err := look(); done || err != nil {
			return err
		}
		return c.follow(cmd.Context(), after, func(e client.Event, _ []byte) (bool, error) {
			if !strings.HasSuffix(e.Stream, "-"+args[0]) {
				return false, nil
			}
			return look()
		})
	}
	return cmd
}

// watchEvents writes the organisation's events as they happen.
func watchEvents(s *settings) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "watch",
		Short: "Follow everything that happens",
		Long:  "Writes each event of the caller's slice of the log as it happens, one on a line; with --output json as it is. A broken connection is taken up where it broke.",
		Args:  cobra.NoArgs,
	}
	after := cmd.Flags().Int64("after", -1, "begin after this log position (default: now)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := s.connect()
		if err != nil {
			return err
		}
		if *after < 0 {
			if *after, err = c.logPosition(cmd.Context()); err != nil {
				return err
			}
		}
		return c.follow(cmd.Context(), *after, func(e client.Event, raw []byte) (bool, error) {
			if c.output == outputJSON {
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s\n", raw)
				return false, err
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "%d  %s  %-32s  %s\n", e.Position, e.RecordedAt.Format(time.RFC3339), e.Type, e.Stream)
			return false, err
		})
	}
	return cmd
}

// watched is what a watch needs of an order or a connection.
type watched struct {
	State  string `json:"state"`
	Reason string `json:"reason"`
	raw    []byte
}

func (c *caller) get(ctx context.Context, path string) (watched, error) {
	r, err := http.NewRequest(http.MethodGet, path, nil)
	if err != nil {
		return watched{}, err
	}
	raw, err := client.Text(c.send(ctx, r))
	if err != nil {
		return watched{}, err
	}
	thing := watched{raw: []byte(raw)}
	if err := json.Unmarshal(thing.raw, &thing); err != nil {
		return watched{}, domain.Errorf(domain.Internal, "cli.watch", "the answer is not the contract's: %w", err)
	}
	return thing, nil
}

func (c *caller) show(cmd *cobra.Command, at time.Time, state, reason string, raw []byte) error {
	if c.output == outputJSON {
		_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s\n", strings.TrimSpace(string(raw)))
		return err
	}
	line := at.UTC().Format(time.RFC3339) + "  " + state
	if reason != "" {
		line += "  " + printable(reason)
	}
	_, err := fmt.Fprintln(cmd.OutOrStdout(), line)
	return err
}

func (c *caller) logPosition(ctx context.Context) (int64, error) {
	r, err := http.NewRequest(http.MethodGet, "/v1/health", nil)
	if err != nil {
		return 0, err
	}
	health, _, err := client.Decode[client.Health](c.send(ctx, r))
	return health.LogPosition, err
}

// follow reads the stream of events (HTML standard, section 9.2) after a log position and hands each on until one says it
// was the last. What breaks off is resumed with the last id; what is refused is an error.
func (c *caller) follow(ctx context.Context, after int64, each func(e client.Event, raw []byte) (done bool, _ error)) error {
	for {
		done, err := c.stream(ctx, &after, each)
		if done || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil // the user has seen enough
		case <-time.After(reconnectPause):
		}
	}
}

func (c *caller) stream(ctx context.Context, after *int64, each func(client.Event, []byte) (bool, error)) (done bool, _ error) {
	r, err := http.NewRequest(http.MethodGet, "/v1/events", nil)
	if err != nil {
		return false, err
	}
	r.Header.Set("Accept", "text/event-stream")
	r.Header.Set("Last-Event-ID", strconv.FormatInt(*after, 10))
	response, err := c.send(ctx, r)
	if ctx.Err() != nil {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	defer response.Body.Close()
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, maxEventLine)
	for lines.Scan() {
		data, ok := strings.CutPrefix(lines.Text(), "data: ")
		if !ok {
			continue
		}
		var e client.Event
		if err := json.Unmarshal([]byte(data), &e); err != nil {
			return false, domain.Errorf(domain.Internal, "cli.watch", "an event is not the contract's: %w", err)
		}
		if done, err := each(e, []byte(data)); done || err != nil {
			return done, err
		}
		*after = e.Position
	}
	return ctx.Err() != nil, nil
}
