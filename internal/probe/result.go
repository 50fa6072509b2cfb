package probe

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"unicode/utf8"

	"sidecar/internal/health"
)

// maxTextBytes bounds the text of a result.
const maxTextBytes = 256

func result(state health.State, format string, args ...any) health.Result {
	return health.Result{State: state, Text: cutText(fmt.Sprintf(format, args...), maxTextBytes)}
}

func pass(format string, args ...any) health.Result { return result(health.Pass, format, args...) }
func warn(format string, args ...any) health.Result { return result(health.Warn, format, args...) }
func fail(format string, args ...any) health.Result { return result(health.Fail, format, args...) }

// measured adds a value to a result.
func measured(r health.Result, name string, value float64) health.Result {
	r.Values = append(r.Values, health.Value{Name: name, Value: value})
	return r
}

// cutText makes s printable on one line, in valid UTF-8, of at most limit bytes.
func cutText(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	if len(s) <= limit {
		return s
	}
	end := limit - len("…")
	for end > 0 && !utf8.RuneStart(s[end]) {
		end--
	}
	return s[:end] + "…"
}

// failed is the result of a check that could not be done: did is what was tried.
func failed(did string, err error) health.Result {
	return fail("%s: %s", did, cause(err))
}

// cause is the text of err without addresses and ports: these are different each
// time, and a text that changes is a change.
func cause(err error) string {
	var op *net.OpError
	var dns *net.DNSError
	var sys *os.SyscallError
	switch {
	case errors.Is(err, errRemote):
		return errRemote.Error()
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded), isTimeout(err):
		return "no answer in time"
	case errors.Is(err, context.Canceled):
		return "stopped"
	case errors.As(err, &dns):
		return dns.Err
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "connection reset"
	case errors.As(err, &sys):
		return sys.Err.Error()
	case errors.As(err, &op) && op.Err != nil:
		return op.Err.Error()
	}
	return err.Error()
}

func isTimeout(err error) bool {
	var t net.Error
	return errors.As(err, &t) && t.Timeout()
}
