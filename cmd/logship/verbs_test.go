package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"

	"sidecar/internal/cli"
	"sidecar/internal/gelf"
	"sidecar/internal/output"
)

func TestConnectCode(t *testing.T) {
	for _, c := range []struct {
		err  error
		want int
	}{
		{fmt.Errorf("connect: %w", &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}), cli.ExitUnreachable},
		{fmt.Errorf("connect: %w", &net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host", Name: "x"}}), cli.ExitUnreachable},
		{&tls.CertificateVerificationError{Err: errors.New("x")}, cli.ExitTLS},
		{tls.AlertError(42), cli.ExitTLS},
		{tls.RecordHeaderError{Msg: "x"}, cli.ExitTLS},
		{fmt.Errorf("connect: %w", &output.Held{Err: errors.New("answer 503")}), cli.ExitUnreachable},
		{&output.Held{Operator: true, Err: errors.New("answer 401")}, cli.ExitTLS},
	} {
		if got := connectCode(c.err); got != c.want {
			t.Errorf("%v: %d, want %d", c.err, got, c.want)
		}
	}
}

func TestReceiveTime(t *testing.T) {
	for in, want := range map[string]int64{
		"":                               0,
		"1970-01-01T00:00:00.000001Z":    1,
		"2026-11-17T08:15:30Z":           1794903330000000,
		"2026-11-17T08:15:30.123456Z":    1794903330123456,
		"2026-11-17T08:15:30.123456789Z": 1794903330123456,
		"2026-11-17T10:15:30+02:00":      1794903330000000,
		"1794903330":                     1794903330000000,
		"1794903330.123456":              1794903330123456,
		"0.000001":                       1,
	} {
		if got, err := receiveTime(in); err != nil || got != want {
			t.Errorf("%q: %d, %v; want %d", in, got, err, want)
		}
	}
	for _, in := range []string{"now", "0", "-1", "NaN", "Inf", "1e99", "2026-11-17", "2026-11-17T08:15:30", "1969-12-31T23:59:59Z", "1,5"} {
		if got, err := receiveTime(in); err == nil || !strings.HasPrefix(err.Error(), "--received ") {
			t.Errorf("%q: %d, %v; want an error", in, got, err)
		}
	}
}

func TestTrimLineEnd(t *testing.T) {
	for in, want := range map[string]string{"": "", "\n": "", "\r\n": "", "a": "a", "a\n": "a", "a\r\n": "a", "a\r": "a", "a\n\n": "a\n", "a\r\r\n": "a\r"} {
		if got := string(trimLineEnd([]byte(in))); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

// TestTerminalSafety: nothing that was received may steer the terminal.
func TestTerminalSafety(t *testing.T) {
	for in, want := range map[string]string{
		"plain ö €":              "plain ö €",
		"\x1b[31mred":            "·[31mred",
		"c1 \u009b31m":           "c1 ·31m",
		"tab\tnul\x00del\x7f":    "tab·nul·del·",
		"\u202eltr\u2066\u200f.": "·ltr··.",
		"bad \xff":               "bad \ufffd",
	} {
		if got := cli.Printable(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
	for in, want := range map[string]string{
		"{\n  \"a\": \"b\"\n}": "{\n  \"a\": \"b\"\n}",
		"\"\u009b\u202e\x7f\"": `"\u009b\u202e\u007f"`,
	} {
		if got := cli.EscapeJSON(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestReadable(t *testing.T) {
	for in, want := range map[string]string{
		`{"version":"1.1","host":"h","short_message":"m","timestamp":1794903330.123,"level":4,"_a":1,"_b":"x"}`: "2026-11-17T08:15:30.123Z h WARN   m a=1 b=x\n",
		`{"version":"1.1","host":"h","short_message":"m","timestamp":1}`:                                        "1970-01-01T00:00:01.000Z h -      m\n",
		`{"version":"1.1","host":"h","short_message":"m","timestamp":1,"level":9}`:                              "1970-01-01T00:00:01.000Z h -      m\n",
		`{"version":"1.1","host":"h","short_message":"m","timestamp":1,"full_message":"a\nb\n"}`:                "1970-01-01T00:00:01.000Z h -      m\n    | a\n    | b\n",
	} {
		v := gelf.Judge([]byte(in))
		if got := readable(&v, []byte(in)); got != want {
			t.Errorf("%s:\n%s, want\n%s", in, got, want)
		}
	}
	long := []byte(`{"_x":"` + strings.Repeat("y", 10000) + `"}`)
	v := gelf.Judge(long)
	if got := readable(&v, long); len(got) > 500 || !strings.HasPrefix(got, "REFUSED (") {
		t.Errorf("%d bytes for a refused message: %.100s", len(got), got)
	}
}
