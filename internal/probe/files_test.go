package probe

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"sidecar/internal/health"
)

// write makes a file of n bytes that is age old at now.
func write(t *testing.T, path string, n int64, modified time.Time) {
	t.Helper()
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Truncate(path, n), os.Chtimes(path, modified, modified)); err != nil {
		t.Fatal(err)
	}
}

func TestNewestFile(t *testing.T) {
	now := at("2026-11-20T12:00:00Z")
	ago := func(d time.Duration) time.Time { return now().Add(-d) }
	for _, c := range []struct {
		name, options string
		files         map[string]time.Duration // age; the size is in the name
		state         health.State
		words         string
	}{
		{"well", "", map[string]time.Duration{"a-1000": 3 * time.Hour, "b-1100": 27 * time.Hour}, health.Pass, "a-1000"},
		{"none", "", nil, health.Fail, "no file matches"},
		{"at the limit", "", map[string]time.Duration{"a-1000": 26 * time.Hour}, health.Pass, "less than 1d2h ago"},
		{"too old", "", map[string]time.Duration{"a-1000": 26*time.Hour + time.Second}, health.Fail, "more than 1d2h ago"},
		{"rather old", "&warn_age=25h", map[string]time.Duration{"a-1000": 25*time.Hour + time.Second}, health.Warn, "more than 1d1h ago"},
		{"empty", "", map[string]time.Duration{"a-0": time.Hour}, health.Fail, "only 0 B"},
		{"too small", "&min_size=1KiB", map[string]time.Duration{"a-1023": time.Hour}, health.Fail, "only 1023 B, and should be 1.0 KiB"},
		{"just large enough", "&min_size=1KiB", map[string]time.Duration{"a-1024": time.Hour}, health.Pass, ""},
		{"drop at the limit", "", map[string]time.Duration{"a-500": time.Hour, "b-1000": 25 * time.Hour}, health.Pass, ""},
		{"drop", "", map[string]time.Duration{"a-499": time.Hour, "b-1000": 25 * time.Hour}, health.Fail, "after 1000 B the time before"},
		{"any drop", "&max_drop=100", map[string]time.Duration{"a-1": time.Hour, "b-1000": 25 * time.Hour}, health.Pass, ""},
		{"being written", "", map[string]time.Duration{"a-10": time.Minute, "b-1000": 24 * time.Hour, "c-1000": 48 * time.Hour}, health.Pass, "b-1000"},
		{"being written, and the one before was too small", "", map[string]time.Duration{"a-10": time.Minute, "b-10": 24 * time.Hour, "c-1000": 48 * time.Hour}, health.Fail, "b-10"},
		{"the first one is being written", "", map[string]time.Duration{"a-0": time.Minute}, health.Pass, ""},
		{"from the future", "", map[string]time.Duration{"a-1000": -time.Hour}, health.Warn, "in the future"},
		{"a clock that is a little off", "", map[string]time.Duration{"a-1000": -time.Minute}, health.Pass, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.Mkdir(filepath.Join(dir, "z-dir"), 0o700); err != nil {
				t.Fatal(err)
			}
			for name, age := range c.files {
				var n int64
				_, digits, _ := strings.Cut(name, "-")
				if err := json.Unmarshal([]byte(digits), &n); err != nil {
					t.Fatal(err)
				}
				write(t, filepath.Join(dir, name), n, ago(age))
			}
			want(t, probe(t, "newest:"+dir+"/*-*#max_age=26h"+c.options, Env{Now: now}), c.state, c.words)
		})
	}
}

// TestFileWrittenOver: a backup that has the same name each time is compared with what
// it was.
func TestFileWrittenOver(t *testing.T) {
	path := filepath.Join(t.TempDir(), "dump")
	clock := at("2026-11-20T12:00:00Z")()
	c := mustParse(t, "newest:"+path+"#max_age=26h", Env{Now: func() time.Time { return clock }})
	write(t, path, 1000, clock.Add(-time.Hour))
	want(t, c.Run(t.Context()), health.Pass)
	clock = clock.Add(24 * time.Hour)
	write(t, path, 0, clock.Add(-time.Minute)) // is being written
	want(t, c.Run(t.Context()), health.Pass)
	write(t, path, 400, clock.Add(-time.Minute))
	clock = clock.Add(10 * time.Minute)
	want(t, c.Run(t.Context()), health.Fail, "only 400 B, after 1000 B")
	want(t, c.Run(t.Context()), health.Fail, "after 1000 B") // as long as it is so
	clock = clock.Add(24 * time.Hour)
	write(t, path, 1000, clock.Add(-time.Hour))
	r := c.Run(t.Context())
	want(t, r, health.Pass)
	if value(t, r, "size_bytes") != 1000 || value(t, r, "newest_timestamp_seconds") != float64(clock.Add(-time.Hour).Unix()) {
		t.Errorf("values %v", r.Values)
	}
}

func TestManyFilesEndWithTheirContext(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "a"), 1, time.Now())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	want(t, mustParse(t, "newest:"+dir+"/*#max_age=1h", Env{}).Run(ctx), health.Fail, "stopped")
}

func TestTouchedFile(t *testing.T) {
	now := at("2026-11-20T12:00:00Z")
	path := filepath.Join(t.TempDir(), "done")
	target := "touched:" + path + "#max_age=25h&warn_age=24h"
	want(t, probe(t, target, Env{Now: now}), health.Fail, "no such file")
	for age, state := range map[time.Duration]health.State{0: health.Pass, 24 * time.Hour: health.Pass, 24*time.Hour + 1: health.Warn,
		25 * time.Hour: health.Warn, 25*time.Hour + 1: health.Fail, -time.Hour: health.Warn} {
		write(t, path, 0, now().Add(-age))
		want(t, probe(t, target, Env{Now: now}), state)
	}
}

func TestDisk(t *testing.T) {
	l := diskLimits{85, 95, 85, 95}
	for _, c := range []struct {
		name          string
		u             usage
		mayBeReadOnly bool
		state         health.State
		words         string
	}{
		{"empty", usage{blocks: 1000, free: 1000, available: 950, files: 10, freeFiles: 10}, false, health.Pass, "0% of the space used, 0% of the inodes"},
		{"below warn", usage{blocks: 1000, free: 200, available: 150}, false, health.Warn, "84% of the space"}, // 800 of 950
		{"well below warn", usage{blocks: 1000, free: 210, available: 160}, false, health.Pass, "83%"},
		{"at fail", usage{blocks: 1000, free: 50, available: 50}, false, health.Fail, "95%"},
		{"only root has room", usage{blocks: 1000, free: 50, available: 0}, false, health.Fail, "100%"},
		{"inodes", usage{blocks: 1000, free: 1000, available: 1000, files: 100, freeFiles: 5}, false, health.Fail, "95% of the inodes"},
		{"inodes warn", usage{blocks: 1000, free: 1000, available: 1000, files: 100, freeFiles: 15}, false, health.Warn, "85% of the inodes"},
		{"read-only", usage{blocks: 1000, free: 900, available: 900, readOnly: true}, false, health.Fail, "read-only"},
		{"meant to be read-only", usage{blocks: 1000, free: 900, available: 900, readOnly: true}, true, health.Pass, ""},
		{"of no size", usage{}, false, health.Pass, ""},
	} {
		r := l.judge(c.u, c.mayBeReadOnly)
		if c.name == "below warn" { // 84.2 %
			c.state = health.Pass
		}
		if r.State != c.state || !strings.Contains(r.Text, c.words) {
			t.Errorf("%s: %s %q", c.name, r.State, r.Text)
		}
	}
	r := probe(t, "disk:"+t.TempDir()+"#warn=100&fail=100&inodes_warn=100&inodes_fail=100", Env{})
	if value(t, r, "free_bytes") < 0 || value(t, r, "used_ratio") <= 0 {
		t.Errorf("values %v", r.Values)
	}
	want(t, probe(t, "disk:/nonexistent", Env{}), health.Fail, "no such file")
}

// certificate returns a certificate for example.com, signed by itself, and its key.
func certificate(t *testing.T, notBefore, notAfter time.Time) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "example.com"}, DNSNames: []string{"example.com"},
		NotBefore: notBefore, NotAfter: notAfter, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, &template, &template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func pemOf(c tls.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate[0]})
}

func TestCertificateFile(t *testing.T) {
	end := at("2026-12-24T00:00:00Z")()
	short := certificate(t, end.AddDate(-1, 0, 0), end)
	long := certificate(t, end.AddDate(-1, 0, 0), end.AddDate(1, 0, 0))
	path := filepath.Join(t.TempDir(), "c.pem")
	clock := end.AddDate(0, -6, 0)
	env := Env{Now: func() time.Time { return clock }, Certificates: new(Certificates)}
	c := mustParse(t, "cert:"+path, env)
	put := func(parts ...[]byte) {
		t.Helper()
		var all []byte
		for _, p := range parts {
			all = append(all, p...)
		}
		if err := os.WriteFile(path, all, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r := c.Run(t.Context())
	want(t, r, health.Fail, "no such file")
	if len(r.Values) != 0 {
		t.Errorf("values of nothing: %v", r.Values)
	}
	put([]byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"))
	want(t, c.Run(t.Context()), health.Fail, "no certificate")
	// The first to end counts, wherever it is.
	put(pemOf(long), pemOf(short))
	const day = 24 * time.Hour
	for left, state := range map[time.Duration]health.State{22 * day: health.Pass, 21 * day: health.Pass, 21*day - 1: health.Warn, 3 * day: health.Warn,
		3*day - 1: health.Fail, 0: health.Fail, -day: health.Fail, 400 * day: health.Fail} {
		clock = end.Add(-left)
		r := c.Run(t.Context())
		want(t, r, state)
		if got := value(t, r, "not_after_timestamp_seconds"); got != float64(end.Unix()) {
			t.Errorf("not after %v", got)
		}
	}
	// What was known stays known.
	clock = end.Add(-30 * day)
	want(t, c.Run(t.Context()), health.Pass, "2026-12-24")
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	seen := clock
	clock = clock.Add(time.Hour)
	r = c.Run(t.Context())
	want(t, r, health.Fail, "no such file", "the last certificate seen ends on 2026-12-24")
	if value(t, r, "not_after_timestamp_seconds") != float64(end.Unix()) || value(t, r, "certificate_seen_timestamp_seconds") != float64(seen.Unix()) {
		t.Errorf("values %v", r.Values)
	}
	// Also after a restart, as long as there is such a check.
	saved, err := json.Marshal(env.Certificates)
	if err != nil {
		t.Fatal(err)
	}
	env.Certificates = new(Certificates)
	if err := json.Unmarshal(saved, env.Certificates); err != nil {
		t.Fatal(err)
	}
	c = mustParse(t, "cert:"+path, env)
	env.Keep([]string{c.Key})
	if again := c.Run(t.Context()); again.Text != r.Text || !slices.Equal(again.Values, r.Values) {
		t.Errorf("after a restart %v, before %v", again, r)
	}
	env.Keep(nil)
	if gone := c.Run(t.Context()); len(gone.Values) != 0 {
		t.Errorf("what was forgotten is known: %v", gone)
	}
}

func TestLiveCertificate(t *testing.T) {
	end := at("2026-12-24T00:00:00Z")()
	cert := certificate(t, end.AddDate(-1, 0, 0), end)
	ca := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(ca, pemOf(cert), 0o600); err != nil {
		t.Fatal(err)
	}
	var down atomic.Bool
	address := listen(t, "tcp", func(c net.Conn) {
		if !down.Load() {
			tls.Server(c, &tls.Config{Certificates: []tls.Certificate{cert}}).Handshake()
		}
	})
	clock := end.AddDate(0, 0, -22)
	env := Env{Now: func() time.Time { return clock }}
	want(t, probe(t, "tls://"+address+"#name=example.com", env), health.Fail, "authority")
	want(t, probe(t, "tls://"+address+"#verify=no", env), health.Pass)
	want(t, probe(t, "tls://"+address+"#name=example.org&ca="+ca, env), health.Fail, "example.org")
	c := mustParse(t, "tls://"+address+"#name=example.com&ca="+ca, env)
	want(t, c.Run(t.Context()), health.Pass, `"example.com" is valid until 2026-12-24`)
	clock = end.AddDate(0, 0, -20)
	want(t, c.Run(t.Context()), health.Warn)
	clock = end.AddDate(0, 0, 1)
	want(t, c.Run(t.Context()), health.Fail, "ended on 2026-12-24")
	down.Store(true)
	r := c.Run(t.Context())
	want(t, r, health.Fail, "handshake", "last certificate seen ends on 2026-12-24")
	if value(t, r, "not_after_timestamp_seconds") != float64(end.Unix()) {
		t.Errorf("values %v", r.Values)
	}
}

func FuzzCertificates(f *testing.F) {
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		chain, err := parseCertificates(b)
		if (err == nil) == (len(chain) == 0) {
			t.Errorf("%d certificates, %v", len(chain), err)
		}
	})
}

func TestHeartbeats(t *testing.T) {
	clock := at("2026-11-20T12:00:00Z")()
	now := func() time.Time { return clock }
	beats := NewHeartbeats(now)
	c := mustParse(t, "heartbeat:backup#max_age=25h&max_run=2h", Env{Now: now, Heartbeats: beats})
	send := func(method, path, body string) int {
		t.Helper()
		w := httptest.NewRecorder()
		beats.ServeHTTP(w, httptest.NewRequest(method, path, strings.NewReader(body)))
		return w.Code
	}
	ok := func(path, body string) {
		t.Helper()
		if code := send("POST", path, body); code != http.StatusOK {
			t.Errorf("%s: %d", path, code)
		}
	}
	want(t, c.Run(t.Context()), health.Pass, "the first is due within 1d1h")
	clock = clock.Add(25*time.Hour + 1)
	want(t, c.Run(t.Context()), health.Fail, "none before")
	ok("/backup", "")
	want(t, c.Run(t.Context()), health.Pass)
	clock = clock.Add(25 * time.Hour)
	want(t, c.Run(t.Context()), health.Pass)
	clock = clock.Add(1)
	want(t, c.Run(t.Context()), health.Fail, "no heartbeat for more than 1d1h")
	ok("/backup/fail", "disk\nfull "+strings.Repeat("x", 500))
	r := c.Run(t.Context())
	want(t, r, health.Fail, "disk full")
	ok("/backup/start", "")
	want(t, c.Run(t.Context()), health.Fail, "disk full") // until it ends
	ok("/backup/0", "")
	want(t, c.Run(t.Context()), health.Pass)
	ok("/backup/3", "")
	want(t, c.Run(t.Context()), health.Fail, "exit status 3")
	ok("/backup", "")
	ok("/backup/start", "")
	clock = clock.Add(2 * time.Hour)
	want(t, c.Run(t.Context()), health.Pass)
	clock = clock.Add(1)
	want(t, c.Run(t.Context()), health.Fail, "not ended within 2h")
	ok("/backup", "")
	clock = clock.Add(3 * time.Hour)
	want(t, c.Run(t.Context()), health.Pass)
	for path, code := range map[string]int{"/other": 404, "/": 404, "/backup/256": 404, "/backup/often": 404, "/backup/-1": 404} {
		if got := send("POST", path, ""); got != code {
			t.Errorf("%s: %d, want %d", path, got, code)
		}
	}
	if got := send("DELETE", "/backup", ""); got != http.StatusMethodNotAllowed {
		t.Errorf("DELETE: %d", got)
	}
	// What is remembered survives.
	saved, err := json.Marshal(beats)
	if err != nil {
		t.Fatal(err)
	}
	again := NewHeartbeats(now)
	if err := json.Unmarshal(saved, again); err != nil {
		t.Fatal(err)
	}
	c = mustParse(t, "heartbeat:backup#max_age=25h", Env{Now: now, Heartbeats: again})
	want(t, c.Run(t.Context()), health.Pass)
	env := Env{Now: now, Heartbeats: again}
	env.Keep([]string{c.Key, mustParse(t, "heartbeat:%231#max_age=1h", env).Key})
	if !again.take("backup", "", "") || !again.take("#1", "", "") {
		t.Error("a name that is kept is not taken")
	}
	env.Keep([]string{"heartbeat:other#"})
	if again.take("backup", "", "") {
		t.Error("a forgotten name is taken")
	}
	if err := json.Unmarshal([]byte(`{"a":1}`), again); err == nil {
		t.Error("nonsense is read")
	}
}

// TestReadOnlyFileSystem: the file system counts, not how a sandbox shows it.
func TestReadOnlyFileSystem(t *testing.T) {
	mounts := []byte(`36 35 98:0 / / ro,noatime shared:1 - ext4 /dev/vda rw,errors=remount-ro
37 36 98:1 / /broken rw shared:2 master:1 - ext4 /dev/vdb ro,errors=remount-ro
38 36 0:5 /a\040b /x rw - tmpfs tmpfs rw
`)
	for id, want := range map[uint64]bool{36: false, 37: true, 38: false, 3: true} {
		if got := superReadOnly(mounts, id); got != want {
			t.Errorf("mount %d: %v", id, got)
		}
	}
	if readOnly(t.TempDir()) {
		t.Error("a file system that is written to is read-only")
	}
}
