package settings_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sidecar/internal/settings"
)

func TestDuration(t *testing.T) {
	ok := func(in string, want time.Duration, text string) {
		t.Helper()
		var d settings.Duration
		if err := d.UnmarshalText([]byte(in)); err != nil || time.Duration(d) != want || d.String() != text {
			t.Errorf("%q: got %d = %s, %v; want %d = %s", in, d, d, err, want, text)
		}
	}
	bad := func(in string) {
		t.Helper()
		d := settings.Duration(7)
		if err := d.UnmarshalText([]byte(in)); err == nil || d != 7 {
			t.Errorf("%q: got %s, %v; want an error", in, d, err)
		}
	}
	const day = 24 * time.Hour
	ok("0", 0, "0s")
	ok("0d", 0, "0s")
	ok("10s", 10*time.Second, "10s")
	ok("250ms", 250*time.Millisecond, "250ms")
	ok("1h30m", 90*time.Minute, "1h30m")
	ok("10m", 10*time.Minute, "10m")
	ok("20h", 20*time.Hour, "20h")
	ok("1h0m5s", time.Hour+5*time.Second, "1h0m5s")
	ok("1.5h", 90*time.Minute, "1h30m")
	ok("24h", day, "1d")
	ok("2d", 2*day, "2d")
	ok("2d12h", 2*day+12*time.Hour, "2d12h")
	ok("1d0.5s", day+500*time.Millisecond, "1d500ms")
	ok("106751d23h47m16.854775807s", math.MaxInt64, "106751d23h47m16.854775807s")
	for _, in := range []string{
		"", " ", "10", "s", "d", "10 s", " 10s", "1d ", "-1s", "-1d", "+1d", "1d-1h", "1d1d", "1.5d", "1w", "1D", "1day", "1e3s",
		"106752d", "106751d23h47m16.854775808s", "99999999999999999999d", "9223372036854775808ns", "\x00", "1s\n",
	} {
		bad(in)
	}
}

func TestSize(t *testing.T) {
	ok := func(in string, want settings.Size, text string) {
		t.Helper()
		var s settings.Size
		if err := s.UnmarshalText([]byte(in)); err != nil || s != want || s.String() != text {
			t.Errorf("%q: got %d = %s, %v; want %d = %s", in, int64(s), s, err, int64(want), text)
		}
	}
	ok("0", 0, "0")
	ok("0KiB", 0, "0")
	ok("1", 1, "1")
	ok("1B", 1, "1")
	ok("1023", 1023, "1023")
	ok("1024", 1024, "1KiB")
	ok("1025", 1025, "1025")
	ok("65536", 65536, "64KiB")
	ok("256KiB", 256<<10, "256KiB")
	ok("256 kib", 256<<10, "256KiB")
	ok("4MiB", 4<<20, "4MiB")
	ok("1kB", 1000, "1kB")
	ok("1KB", 1000, "1kB")
	ok("1500kB", 1500e3, "1500kB")
	ok("3MB", 3e6, "3MB")
	ok("1GB", 1e9, "1GB")
	ok("2GiB", 2<<30, "2GiB")
	ok("1TB", 1e12, "1TB")
	ok("8388607TiB", 8388607<<40, "8388607TiB")
	ok("9223372036854775807", math.MaxInt64, "9223372036854775807")
	for _, in := range []string{
		"", " ", "B", "KiB", "4K", "4M", "4Mi", "4MiBs", "1.5MiB", "-1", "-1KiB", "+1", "1 K B", "0x10", "1_000", "1e3",
		"8388608TiB", "9223372036854775808", "KiB4", "4\x00KiB", "4KiB\n",
	} {
		s := settings.Size(7)
		if err := s.UnmarshalText([]byte(in)); err == nil || s != 7 {
			t.Errorf("%q: got %s, %v; want an error", in, s, err)
		}
	}
}

func TestTextOfDurationAndSizeReadsBack(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		shift := rapid.IntRange(0, 62).Draw(rt, "shift")
		n := rapid.Int64Range(0, math.MaxInt64).Draw(rt, "n") >> shift << rapid.IntRange(0, shift).Draw(rt, "back")
		var d settings.Duration
		if err := d.UnmarshalText([]byte(settings.Duration(n).String())); err != nil || int64(d) != n {
			rt.Errorf("duration %d: got %d from %s, %v", n, d, settings.Duration(n), err)
		}
		var s settings.Size
		if err := s.UnmarshalText([]byte(settings.Size(n).String())); err != nil || int64(s) != n {
			rt.Errorf("size %d: got %d from %s, %v", n, s, settings.Size(n), err)
		}
	})
}

// secret returns a loaded Secret.
func secret(t *testing.T, f files, env []string, ref string) settings.Secret {
	t.Helper()
	a, _, err := load(t, f, env, "", "output.http.token="+ref)
	if err != nil {
		t.Fatal(err)
	}
	return a.Output.HTTP.Token
}

func TestSecretReveal(t *testing.T) {
	f := files{
		"/s/plain": "s3cret", "/s/lf": "s3cret\n", "/s/crlf": "s3cret\r\n\n", "/s/spaces": " s3 cret \n",
		"/s/empty": "", "/s/newline": "\n", "/s/secret": "EACCES", "/s/dir/x": "",
		"/s/limit": strings.Repeat("x", 64<<10), "/s/large": strings.Repeat("x", 64<<10+1),
		"/run/credentials/logship/graylog": "fr0m cred\n",
	}
	env := []string{"TOKEN=fr0m env\n", "EMPTY=", "CREDENTIALS_DIRECTORY=/run/credentials/logship"}
	for _, c := range []struct {
		ref, want, err string
		env            []string
	}{
		{ref: "", want: ""},
		{ref: "env:TOKEN", want: "fr0m env\n", env: env},
		{ref: "file:/s/plain", want: "s3cret"},
		{ref: "file:/s/lf", want: "s3cret"},
		{ref: "file:/s/crlf", want: "s3cret"},
		{ref: "file:/s/spaces", want: " s3 cret "},
		{ref: "file:/s/limit", want: f["/s/limit"]},
		{ref: "cred:graylog", want: "fr0m cred", env: env},
		{ref: "env:NONE", err: "read secret env:NONE: the variable is not set", env: env},
		{ref: "env:EMPTY", err: "read secret env:EMPTY: the variable is not set", env: env},
		{ref: "file:/s/empty", err: "read secret file:/s/empty: it is empty"},
		{ref: "file:/s/newline", err: "read secret file:/s/newline: it is empty"},
		{ref: "file:/s/none", err: "read secret file:/s/none: no such file"},
		{ref: "file:/s/dir", err: "read secret file:/s/dir: is a directory"},
		{ref: "file:/s/large", err: "read secret file:/s/large: larger than the limit of 64KiB"},
		{ref: "file:/s/secret", err: "read secret file:/s/secret: permission denied; make it readable for the daemon's user, or refer to it as cred:name"},
		{ref: "cred:none", err: "read secret cred:none: no such file", env: env},
		{ref: "cred:graylog", err: "read secret cred:graylog: CREDENTIALS_DIRECTORY is not set; add LoadCredential=graylog:/path to the unit"},
	} {
		s := secret(t, f, c.env, c.ref)
		got, err := s.Reveal()
		var se *settings.Error
		switch {
		case c.err != "" && (err == nil || err.Error() != c.err || !errors.As(err, &se) || got != ""):
			t.Errorf("%s: got %q, %v; want error %s", c.ref, got, err, c.err)
		case c.err == "" && (err != nil || got != c.want):
			t.Errorf("%s: got %q, %v; want %q", c.ref, got, err, c.want)
		}
		if s.IsZero() != (c.ref == "") {
			t.Errorf("%q: IsZero is %v", c.ref, s.IsZero())
		}
	}
}

func TestSecretOutsideLoadUsesTheProcess(t *testing.T) {
	t.Setenv("SETTINGS_TEST_TOKEN", "s3cret")
	var s settings.Secret
	if err := s.UnmarshalText([]byte("env:SETTINGS_TEST_TOKEN")); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Reveal(); err != nil || got != "s3cret" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestSecretRejectsWithoutQuoting(t *testing.T) {
	for _, ref := range []string{"hunter2", "hunter2:x", "Env:hunter2", "env:", "env:hunter 2", "env:hunter=2", "file:", "file:hunter2", "cred:", "cred:..", "cred:hunter/2", ":hunter2", "cred:hunter\x002"} {
		var s settings.Secret
		err := s.UnmarshalText([]byte(ref))
		if err == nil || strings.Contains(err.Error(), "hunter") || !s.IsZero() {
			t.Errorf("%q: got %v", ref, err)
		}
	}
}

func TestSecretIsNeverPrinted(t *testing.T) {
	s := secret(t, nil, []string{"TOKEN=s3cret"}, "env:TOKEN")
	if got, err := s.Reveal(); err != nil || got != "s3cret" {
		t.Fatalf("got %q, %v", got, err)
	}
	var out bytes.Buffer
	type holder struct {
		Public  settings.Secret
		private settings.Secret
		Pointer *settings.Secret
	}
	h := holder{s, s, &s}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%p", "%T"} {
		fmt.Fprintf(&out, verb+verb+verb+"\n", s, &s, h)
	}
	fmt.Fprintln(&out, s, h.private)
	text, err := json.Marshal(h)
	if err != nil {
		t.Fatal(err)
	}
	out.Write(text)
	for _, h2 := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
		slog.New(h2).Info("x", "secret", s, "pointer", &s, "holder", h)
	}
	hex := fmt.Sprintf("%x", "s3cret")
	for _, leak := range []string{"s3cret", hex, strings.ToUpper(hex)} {
		if strings.Contains(out.String(), leak) {
			t.Errorf("%s is in %s", leak, out.String())
		}
	}
	if got := fmt.Sprintf("%v %#v %d %s", s, s, s, text); got != `env:TOKEN env:TOKEN env:TOKEN {"Public":"env:TOKEN","Pointer":"env:TOKEN"}` {
		t.Errorf("got %s", got)
	}
}
