package probe

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"sidecar/internal/health"
)

// Func runs a check once and returns what it found, by the time ctx is done. Its
// calls do not overlap; it may remember what it saw in the one before. It has no
// errors: what keeps it from looking is a Result too.
type Func func(ctx context.Context) health.Result

// Check is a check of one target, as Parse makes it.
type Check struct {
	// ID is the caller's name of the target; Parse leaves it empty.
	ID string
	// Kind is the scheme of the target: "http", "redis", …
	Kind string
	// Key tells checks apart: two with the same ID and Key are the same check. It
	// holds references to secrets, never secrets.
	Key string
	// Every is the time from one start to the next, Timeout what a run may take.
	// Both are above 0, and Timeout is at most Every.
	Every, Timeout time.Duration
	// Run is the check itself.
	Run Func
}

// Env is what checks need from outside. The zero value is of use: checks that need
// more say so when they are parsed.
type Env struct {
	// AllowRemote lets checks connect to addresses that are not of the loopback
	// interface. Without it they are refused after their name is resolved, so a name
	// cannot be made to lead elsewhere.
	AllowRemote bool
	// Unit returns the state of a systemd unit, "unit:nginx.service". It may be called
	// concurrently.
	Unit func(ctx context.Context, name string) (Unit, error)
	// Heartbeats takes what jobs send, "heartbeat:backup".
	Heartbeats *Heartbeats
	// Certificates remembers when certificates end; nil: only the check itself does.
	Certificates *Certificates
	// Counters counts what is odd about answers; nil: nothing is counted.
	Counters *Counters
	// Now is the clock for ages of files, certificates and heartbeats; nil: time.Now.
	Now func() time.Time
}

// Counters counts what checks met, over all of them, since the start. All fields may
// be read at any time.
type Counters struct {
	// StatusMismatch are HTTP answers whose body says other than their status code.
	StatusMismatch atomic.Uint64
	// Redirects are HTTP answers that lead elsewhere; none is followed.
	Redirects atomic.Uint64
	// TooLong are answers longer than the limit, compressed or not.
	TooLong atomic.Uint64
	// Malformed are answers that are not what their protocol or content type says.
	Malformed atomic.Uint64
}

// Errors of Parse that a caller may want to tell apart.
var (
	// ErrKind is returned for a target whose scheme is not in the table.
	ErrKind = errors.New("unknown kind of check")
	// ErrOption is returned for an option that the kind does not have, or whose value
	// it cannot use.
	ErrOption = errors.New("unusable option")
)

// kind is an entry of the table of checks.
type kind struct {
	build          func(*target) (Func, error)
	every, timeout time.Duration
	usage          string
}

// kinds is the table of checks, by scheme.
func kinds() map[string]kind {
	return map[string]kind{
		"http":        {httpCheck, 10 * time.Second, 5 * time.Second, "http://127.0.0.1:3000/health"},
		"https":       {httpCheck, 10 * time.Second, 5 * time.Second, "https://127.0.0.1:3000/health"},
		"tcp":         {tcpCheck, 10 * time.Second, 3 * time.Second, "tcp://127.0.0.1:25#expect=220"},
		"unix":        {unixCheck, 10 * time.Second, 3 * time.Second, "unix:/run/app.sock"},
		"unit":        {unitCheck, 10 * time.Second, 5 * time.Second, "unit:nginx.service"},
		"tls":         {tlsCheck, 10 * time.Minute, 10 * time.Second, "tls://127.0.0.1:443#name=www.example.com"},
		"cert":        {certCheck, 10 * time.Minute, 10 * time.Second, "cert:/etc/ssl/example.pem"},
		"newest":      {newestCheck, time.Minute, 20 * time.Second, "newest:/var/backups/db/*.gz#max_age=26h"},
		"touched":     {touchedCheck, 30 * time.Second, 10 * time.Second, "touched:/run/job/done#max_age=25h"},
		"heartbeat":   {heartbeatCheck, 30 * time.Second, 5 * time.Second, "heartbeat:backup#max_age=25h"},
		"disk":        {diskCheck, 30 * time.Second, 10 * time.Second, "disk:/var"},
		"redis":       {redisCheck, 10 * time.Second, 3 * time.Second, "redis://127.0.0.1:6379"},
		"mongodb":     {mongoCheck, 10 * time.Second, 3 * time.Second, "mongodb://127.0.0.1:27017"},
		"postgresql":  {postgresCheck, 10 * time.Second, 3 * time.Second, "postgresql://127.0.0.1:5432"},
		"mysql":       {mysqlCheck, 10 * time.Second, 3 * time.Second, "mysql://127.0.0.1:3306"},
		"dns":         {dnsCheck, 30 * time.Second, 5 * time.Second, "dns://127.0.0.53/example.com"},
		"healthd":     {healthdCheck, 10 * time.Second, 3 * time.Second, "healthd://127.0.0.1:9481"},
		"healthd+tls": {healthdCheck, 10 * time.Second, 3 * time.Second, "healthd+tls://127.0.0.1:9481#name=web-01.example.com"},
		"logship":     {logshipCheck, 15 * time.Second, 5 * time.Second, "logship://127.0.0.1:9478"},
	}
}

// target is what is being parsed.
type target struct {
	kind string
	rest string   // without scheme and options, unescaped
	url  *url.URL // without options
	opt  *options
	env  Env
}

// Parse returns the check of a target such as "http://127.0.0.1:3000/health". What
// stands behind '#', as "name=value&name=value" with %-escapes, are options; more
// come in extra, which may be nil and is not kept. docs/checks.md has the targets and
// their options. Every kind has "every" and "timeout".
//
// Nothing is connected to, and no file is read but that of the option ca. Heartbeats learns the names of heartbeats.
// The error wraps ErrKind or ErrOption, or says what is wrong with the text.
func Parse(text string, extra map[string]string, env Env) (Check, error) {
	if env.Now == nil {
		env.Now = time.Now
	}
	if env.Counters == nil {
		env.Counters = new(Counters)
	}
	if env.Certificates == nil {
		env.Certificates = new(Certificates)
	}
	t, err := splitTarget(text, extra, env)
	if err != nil {
		return Check{}, fmt.Errorf("parse check %q: %w", cutText(withoutSecrets(text), 64), err)
	}
	c, err := t.check()
	if err != nil {
		return Check{}, fmt.Errorf("parse check %q: %w", cutText(withoutSecrets(text), 64), err)
	}
	return c, nil
}

// withoutSecrets returns the part of a target that can be shown: a password may stand
// where none belongs, in the options or before the host.
func withoutSecrets(text string) string {
	shown, _, _ := strings.Cut(text, "#")
	if at := strings.LastIndexByte(shown, '@'); at >= 0 && strings.Contains(shown[:at], "//") {
		start := strings.Index(shown, "//") + 2
		return shown[:start] + "…" + shown[at:]
	}
	return shown
}

func splitTarget(text string, extra map[string]string, env Env) (*target, error) {
	main, fragment, _ := strings.Cut(text, "#")
	scheme, rest, ok := strings.Cut(main, ":")
	scheme = strings.ToLower(scheme)
	switch scheme {
	case "postgres":
		scheme = "postgresql"
	case "mariadb":
		scheme = "mysql"
	}
	if !ok {
		return nil, errors.New(`want scheme:target, such as "http://127.0.0.1:3000/health"`)
	}
	t := &target{kind: scheme, env: env}
	var err error
	if t.rest, err = url.PathUnescape(rest); err != nil {
		return nil, err
	}
	if strings.HasPrefix(rest, "//") {
		// The URL's own errors quote it, and a password that should not be in it.
		if t.url, err = url.Parse(main); err != nil {
			return nil, errors.New("not a URL")
		}
		if _, has := t.url.User.Password(); has {
			return nil, errors.New("a password in the URL would be shown in many places: use the option password with a file, credential or variable")
		}
	}
	t.opt, err = parseOptions(fragment, extra)
	return t, err
}

// key returns the Key of the check.
func (t *target) key() string {
	if t.url != nil { // exactly as written: an escaped '/' is not a '/'
		return t.url.String() + "#" + t.opt.canonical()
	}
	return t.kind + ":" + t.rest + "#" + t.opt.canonical()
}

func (t *target) check() (Check, error) {
	k, ok := kinds()[t.kind]
	if !ok {
		return Check{}, fmt.Errorf("%w %q (there are: %s)", ErrKind, cutText(t.kind, 64), strings.Join(slices.Sorted(maps.Keys(kinds())), " "))
	}
	c := Check{Kind: t.kind, Key: t.key()}
	c.Every = t.opt.duration("every", k.every)
	c.Timeout = t.opt.duration("timeout", min(k.timeout, c.Every))
	if c.Every < 100*time.Millisecond || c.Timeout <= 0 || c.Timeout > c.Every {
		t.opt.bad("timeout", fmt.Errorf("want 0 < timeout <= every, and every from 100ms, found timeout %s and every %s", c.Timeout, c.Every))
	}
	run, err := k.build(t)
	if err == nil {
		err = t.opt.finish()
	}
	c.Run = run
	return c, err
}
