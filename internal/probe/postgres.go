package probe

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"sidecar/internal/health"
)

// postgres checks that sessions are accepted, as pg_isready(1) does, without a
// password.
type postgres struct {
	at       endpoint
	startup  []byte
	role     string // "any", "primary" or "standby"
	counters *Counters
}

// postgresCheck is the check of PostgreSQL: it accepts sessions. If the user may log
// in without a password (trust or peer, the latter on the unix socket), the role is
// known too.
//
// Options: user (healthd), database (postgres), role (any, primary, standby), socket.
// A URL without a host has the directory of the socket, or the socket.
func postgresCheck(t *target) (Func, error) {
	at, err := t.endpoint("5432")
	if err != nil {
		return nil, err
	}
	if at.network == "unix" && !bytes.Contains([]byte(at.address), []byte(".s.PGSQL.")) {
		at.address += "/.s.PGSQL.5432"
	}
	c := &postgres{at: at, counters: t.env.Counters}
	c.role = t.opt.oneOf("role", "any", "any", "primary", "standby")
	user, database := t.opt.text("user", "healthd"), t.opt.text("database", "postgres")
	c.startup, err = startupMessage("user", user, "database", database, "application_name", "healthd")
	return c.run, err
}

// startupMessage returns a StartupMessage of protocol 3.0 (PostgreSQL, "Message
// Formats"): length, version, names and values that end with NUL, and one NUL more.
func startupMessage(pairs ...string) ([]byte, error) {
	msg := binary.BigEndian.AppendUint32(make([]byte, 4), 3<<16)
	for _, s := range pairs {
		if s == "" || bytes.IndexByte([]byte(s), 0) >= 0 {
			return nil, errors.New("user and database cannot be empty")
		}
		msg = append(append(msg, s...), 0)
	}
	msg = append(msg, 0)
	binary.BigEndian.PutUint32(msg, uint32(len(msg)))
	return msg, nil
}

// maxMessageBytes bounds one message of a database server.
const maxMessageBytes = 16 << 10

// readMessage reads a message: type, length with itself, content.
func readMessage(r io.Reader) (kind byte, content []byte, err error) {
	var head [5]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	n := binary.BigEndian.Uint32(head[1:])
	if n < 4 || n > maxMessageBytes {
		return 0, nil, errMalformed
	}
	content = make([]byte, n-4)
	_, err = io.ReadFull(r, content)
	return head[0], content, err
}

func (c *postgres) run(ctx context.Context) health.Result {
	w, err := c.at.dial(ctx)
	if err != nil {
		return failed("connect", err)
	}
	defer w.Close()
	if _, err := w.Write(c.startup); err != nil {
		return failed("start a session", err)
	}
	r, err := c.session(w)
	if err != nil {
		if errors.Is(err, errMalformed) {
			c.counters.Malformed.Add(1)
		}
		return failed("start a session", err)
	}
	return r
}

// session reads up to the question for a password, or to the end of the login.
func (c *postgres) session(w io.ReadWriter) (health.Result, error) {
	parameters, loggedIn := map[string]string{}, false
	for range 100 {
		kind, content, err := readMessage(w)
		if err != nil {
			return health.Result{}, err
		}
		switch {
		case kind == 'E':
			return c.refused(content), nil
		case kind == 'R' && len(content) < 4:
			return health.Result{}, errMalformed
		case kind == 'R' && binary.BigEndian.Uint32(content) != 0:
			return c.accepts("accepts sessions, and wants a password"), nil
		case kind == 'R':
			loggedIn = true
		case kind == 'S' && loggedIn:
			if name, rest, ok := cutName(content); ok {
				parameters[name], _, _ = cutName(rest)
			}
		case kind == 'Z' && loggedIn:
			// Terminate; without it the server's log has a lost connection.
			_, err := w.Write([]byte{'X', 0, 0, 0, 4})
			return c.judge(parameters), err
		case kind != 'K' && kind != 'N' && kind != 'v':
			return health.Result{}, errMalformed
		}
	}
	return health.Result{}, errMalformed
}

// accepts is the result of a server that takes sessions and does not tell its role.
func (c *postgres) accepts(text string) health.Result {
	if c.role != "any" {
		return warn("%s, so whether it is %s is not known", text, c.role)
	}
	return pass("%s", text)
}

// refused judges an ErrorResponse by its SQLSTATE ("PostgreSQL Error Codes"): most of
// them, a user or database that is not there say, come from a server that works.
func (c *postgres) refused(content []byte) health.Result {
	var code, message string
	for len(content) > 1 {
		value, rest, ok := cutName(content[1:])
		if !ok {
			break
		}
		switch content[0] {
		case 'C':
			code = cutText(value, 10)
		case 'M':
			message = cutText(value, 100)
		}
		content = rest
	}
	text := fmt.Sprintf("%s (%s)", message, code)
	switch {
	case code == "57P03": // cannot_connect_now: starting up, shutting down, recovering
		return result(health.Starting, "%s", text)
	case code == "":
		c.counters.Malformed.Add(1)
		return fail("refuses sessions without a reason")
	case code[:min(len(code), 2)] == "28", code == "3D000", code == "42501":
		return c.accepts("accepts sessions, not that of this user: " + text)
	}
	return fail("%s", text)
}

// judge judges by what the server reports after a login ("ParameterStatus"): since
// version 14 whether it is a hot standby.
func (c *postgres) judge(parameters map[string]string) health.Result {
	standby, known := parameters["in_hot_standby"]
	role := map[string]string{"on": "standby", "off": "primary"}[standby]
	switch {
	case !known || role == "":
		return c.accepts("accepts sessions")
	case c.role != "any" && c.role != role:
		return fail("%s, and should be %s", role, c.role)
	}
	return pass("%s, accepts sessions", role)
}
