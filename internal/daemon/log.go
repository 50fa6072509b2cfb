// Package daemon holds what the daemons of this repository have in common as
// processes: logging for systemd or a terminal, readiness and watchdog
// notifications, and the private HTTP listener.
package daemon

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Log formats.
const (
	FormatAuto    = "auto"    // FormatJournal if stderr goes to the journal, else FormatText
	FormatJournal = "journal" // a priority prefix for systemd, no time
	FormatText    = "text"    // with time, for people
)

// NewLogger returns a logger that writes to w. level is debug, info, warn or
// error.
func NewLogger(w io.Writer, level, format string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("log level %q: want debug, info, warn or error", level)
	}
	if !slices.Contains([]string{FormatAuto, FormatJournal, FormatText}, format) {
		return nil, fmt.Errorf("log format %q: want auto, journal or text", format)
	}
	if format == FormatJournal || format == FormatAuto && StderrIsJournal() {
		return slog.New(newJournalHandler(w, l)), nil
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: l})), nil
}

// StderrIsJournal reports whether standard error is connected to journald:
// $JOURNAL_STREAM names its device and inode (systemd.exec(5)).
func StderrIsJournal() bool {
	var st syscall.Stat_t
	if err := syscall.Fstat(2, &st); err != nil {
		return false
	}
	return os.Getenv("JOURNAL_STREAM") == strconv.FormatUint(st.Dev, 10)+":"+strconv.FormatUint(st.Ino, 10)
}

// journalHandler writes "<6>message key=value": journald takes the prefix as the
// priority (sd-daemon(3)) and has a time of its own.
type journalHandler struct {
	out   *output
	text  slog.Handler // writes to out.buf
	level slog.Level
}

// output serialises the handlers that were derived from one.
type output struct {
	mu  sync.Mutex
	buf bytes.Buffer // guarded by mu
	w   io.Writer
}

func newJournalHandler(w io.Writer, level slog.Level) *journalHandler {
	o := &output{w: w}
	text := slog.NewTextHandler(&o.buf, &slog.HandlerOptions{Level: level, ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		_, isLevel := a.Value.Any().(slog.Level)
		if len(groups) == 0 && (a.Key == slog.LevelKey && isLevel || a.Key == slog.MessageKey && a.Value.String() == "") {
			return slog.Attr{} // the record's own; attributes may have the same names
		}
		return a
	}})
	return &journalHandler{out: o, text: text, level: level}
}

func (h *journalHandler) Enabled(_ context.Context, l slog.Level) bool { return l >= h.level }

func (h *journalHandler) Handle(ctx context.Context, r slog.Record) error {
	h.out.mu.Lock()
	defer h.out.mu.Unlock()
	h.out.buf.Reset()
	message := r.Message
	if strings.ContainsAny(message, "\r\n") {
		message = strconv.Quote(message) // journald takes each line for an entry
	}
	fmt.Fprintf(&h.out.buf, "<%d>%s", priority(r.Level), message)
	end := h.out.buf.Len()
	h.out.buf.WriteByte(' ')
	r.Time, r.Message = time.Time{}, ""
	if err := h.text.Handle(ctx, r); err != nil {
		return err
	}
	b := h.out.buf.Bytes()
	if len(b) == end+2 { // no attributes: only the blank and the line end
		b = append(b[:end], '\n')
	}
	_, err := h.out.w.Write(b)
	return err
}

func (h *journalHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &journalHandler{out: h.out, text: h.text.WithAttrs(attrs), level: h.level}
}

func (h *journalHandler) WithGroup(name string) slog.Handler {
	return &journalHandler{out: h.out, text: h.text.WithGroup(name), level: h.level}
}

// priority returns the syslog severity of a level.
func priority(l slog.Level) int {
	switch {
	case l >= slog.LevelError:
		return 3
	case l >= slog.LevelWarn:
		return 4
	case l >= slog.LevelInfo:
		return 6
	}
	return 7
}
