package cli

import (
	"errors"
	"io/fs"
	"syscall"

	"sidecar/internal/settings"
)

// Exit codes, the same for all verbs of all daemons; those from 64 on are sysexits.h's.
const (
	ExitOK          = 0
	ExitFailed      = 1
	ExitUsage       = 2
	ExitUnreachable = 4  // whom the verb has to talk to cannot be reached
	ExitTLS         = 5  // TLS or authorization
	ExitNoJournal   = 69 // EX_UNAVAILABLE
	ExitTemporary   = 75 // EX_TEMPFAIL: try again later
	ExitPermission  = 77 // EX_NOPERM
	ExitConfig      = 78 // EX_CONFIG
)

// exitError gives an error an exit code.
type exitError struct {
	code int
	err  error
}

func (e exitError) Error() string { return e.err.Error() }
func (e exitError) Unwrap() error { return e.err }

// WithCode gives err an exit code.
func WithCode(code int, err error) error { return exitError{code, err} }

// ExitCode returns the exit code for err; of joined errors the first counts that has
// one.
func ExitCode(err error) int {
	var coded exitError
	switch {
	case errors.As(err, &coded):
		return coded.code
	case errors.As(err, new(*settings.Error)):
		return ExitConfig
	case errors.Is(err, fs.ErrPermission):
		return ExitPermission
	case errors.Is(err, syscall.EADDRINUSE):
		return ExitTemporary
	}
	return ExitFailed
}
