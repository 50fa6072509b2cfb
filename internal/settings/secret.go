package settings

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

const maxSecretBytes = 64 << 10

// Secret refers to a secret: "env:NAME" to an environment variable,
// "file:/path" to a file with an absolute path, "cred:name" to a file in
// $CREDENTIALS_DIRECTORY (systemd.exec(5) "Credentials"). The zero value and ""
// refer to none. It never holds the secret itself, so printing, logging or
// encoding it in any way shows the reference.
type Secret struct {
	ref    string
	access *access // nil: the process's own
}

// access is how secrets reach what they refer to. It holds functions only: fmt
// prints unexported fields without asking their methods, so a map of the
// environment would show every secret in it.
type access struct {
	getenv func(name string) string
	open   func(name string) (fs.File, error)
}

// UnmarshalText sets s to the reference in text. Its error does not quote the
// text, which may be a secret in the wrong place.
func (s *Secret) UnmarshalText(text []byte) error {
	ref := string(text)
	scheme, name, _ := strings.Cut(ref, ":")
	ok := false
	switch scheme {
	case "":
		ok = ref == ""
	case "env":
		ok = name != "" && strings.Trim(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_") == ""
	case "file":
		ok = filepath.IsAbs(name)
	case "cred":
		ok = name != "" && name != "." && name != ".." && !strings.ContainsAny(name, "/\x00")
	}
	if !ok {
		return errors.New("want " + wantSecret + "; the value is not shown, as it may be the secret itself")
	}
	s.ref = ref
	return nil
}

// IsZero reports whether s refers to no secret.
func (s Secret) IsZero() bool { return s.ref == "" }

// Reveal returns the secret, "" if s refers to none. Files are read anew each
// time, at most 64 KiB, and lose the line ends at their end. An empty secret is
// an error. Errors are of type *Error and do not hold the secret.
func (s Secret) Reveal() (string, error) {
	if s.IsZero() {
		return "", nil
	}
	value, err := s.read()
	if err == nil && value == "" {
		err = errors.New("it is empty")
	}
	if err != nil {
		return "", &Error{Err: fmt.Errorf("read secret %s: %w", s.ref, err)}
	}
	return value, nil
}

func (s Secret) read() (string, error) {
	a := s.access
	if a == nil {
		a = &access{os.Getenv, func(name string) (fs.File, error) { return os.Open(name) }}
	}
	scheme, name, _ := strings.Cut(s.ref, ":")
	switch scheme {
	case "env":
		if value := a.getenv(name); value != "" {
			return value, nil
		}
		return "", errors.New("the variable is not set")
	case "cred":
		dir := a.getenv("CREDENTIALS_DIRECTORY")
		if dir == "" {
			return "", fmt.Errorf("CREDENTIALS_DIRECTORY is not set; add LoadCredential=%s:/path to the unit", name)
		}
		name = filepath.Join(dir, name)
	}
	data, err := readFile(a.open, name, maxSecretBytes)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return "", fmt.Errorf("%w; make it readable for the daemon's user, or refer to it as cred:name", reason(err))
	case errors.Is(err, errTooLarge):
		return "", fmt.Errorf("%w of %s", err, Size(maxSecretBytes))
	case err != nil:
		return "", reason(err)
	}
	return strings.TrimRight(string(data), "\r\n"), nil
}

// String returns the reference.
func (s Secret) String() string { return s.ref }

// Format writes the reference, whatever the verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, s.ref) }

// MarshalText returns the reference.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.ref), nil }
