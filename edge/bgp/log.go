package bgp

import (
	"context"
	"fmt"
	"log/slog"

	gobgplog "github.com/osrg/gobgp/v3/pkg/log"
)

// logAdapter gives GoBGP's messages to slog. What GoBGP calls Info is for its developers and is logged as Debug.
type logAdapter struct{ logger *slog.Logger }

func (l *logAdapter) Panic(msg string, fields gobgplog.Fields) {
	l.log(slog.LevelError, msg, fields)
	panic("gobgp: " + msg) // GoBGP calls it only for a state its own logic excludes
}

// Fatal does not end the process: a speaker must not take the node's meters down with it.
func (l *logAdapter) Fatal(msg string, fields gobgplog.Fields) { l.log(slog.LevelError, msg, fields) }
func (l *logAdapter) Error(msg string, fields gobgplog.Fields) { l.log(slog.LevelError, msg, fields) }
func (l *logAdapter) Info(msg string, fields gobgplog.Fields)  { l.log(slog.LevelDebug, msg, fields) }
func (l *logAdapter) Debug(msg string, fields gobgplog.Fields) { l.log(slog.LevelDebug-4, msg, fields) }

func (l *logAdapter) Warn(msg string, fields gobgplog.Fields) {
	level := slog.LevelWarn
	if msg == refusedPath {
		level = slog.LevelDebug
	}
	l.log(level, msg, fields)
}

// refusedPath is what GoBGP warns of for every route the import policy refuses: it is then withdrawn from a table it was
// never in. A peer may announce what it likes, so it is nothing to wake anybody for.
const refusedPath = "No matching path for withdraw found, may be path was not installed into table"

func (l *logAdapter) SetLevel(gobgplog.LogLevel) {}

func (l *logAdapter) GetLevel() gobgplog.LogLevel {
	switch {
	case l.logger.Enabled(context.Background(), slog.LevelDebug-4):
		return gobgplog.DebugLevel
	case l.logger.Enabled(context.Background(), slog.LevelDebug):
		return gobgplog.InfoLevel
	}
	return gobgplog.WarnLevel
}

func (l *logAdapter) log(level slog.Level, msg string, fields gobgplog.Fields) {
	if !l.logger.Enabled(context.Background(), level) {
		return
	}
	args := make([]any, 0, 2*len(fields))
	for key, value := range fields {
		args = append(args, key, fmt.Sprint(value))
	}
	l.logger.Log(context.Background(), level, "gobgp: "+msg, args...)
}
