package probe

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"sidecar/internal/health"
	"sidecar/internal/settings"
)

// maxReplyBytes bounds one reply of Redis; INFO has some kilobytes.
const maxReplyBytes = 64 << 10

// redis checks PING, the role and the link to the master.
type redis struct {
	at         endpoint
	user       string
	password   settings.Secret
	role       string // "master", "replica" or "any"
	maxLag     int64  // seconds since the master was heard of
	minReplica int64
	counters   *Counters
}

// redisCheck is the check of Redis or Valkey: it answers PING, has its data loaded,
// and is what it should be.
//
// Options: password (a reference) and user, role (any, master, replica), max_lag (10s:
// warn when a replica has not heard from its master for longer), min_replicas, socket.
func redisCheck(t *target) (Func, error) {
	at, err := t.endpoint("6379")
	if err != nil {
		return nil, err
	}
	c := &redis{at: at, counters: t.env.Counters, user: t.opt.text("user", ""), password: t.opt.secret("password")}
	c.role = t.opt.oneOf("role", "any", "any", "master", "replica")
	c.maxLag = int64(t.opt.duration("max_lag", 10e9).Seconds())
	if n := t.opt.text("min_replicas", "0"); true {
		c.minReplica, err = strconv.ParseInt(n, 10, 32)
		if err != nil || c.minReplica < 0 {
			t.opt.bad("min_replicas", errors.New("want a number"))
		}
	}
	return c.run, nil
}

func (c *redis) run(ctx context.Context) health.Result {
	w, err := c.at.dial(ctx)
	if err != nil {
		return failed("connect", err)
	}
	defer w.Close()
	secret, err := c.password.Reveal()
	if err != nil {
		return result(health.Unknown, "%v", err)
	}
	var request []byte
	if secret != "" {
		request = appendCommand(request, "AUTH", c.user, secret)
	}
	request = appendCommand(appendCommand(request, "PING"), "INFO", "replication")
	if _, err := w.Write(request); err != nil {
		return failed("PING", err)
	}
	r := bufio.NewReader(w)
	if secret != "" {
		if reply, err := readReply(r); err != nil {
			return c.refused("AUTH", reply, err)
		}
	}
	pong, err := readReply(r)
	if err != nil {
		return c.refused("PING", pong, err)
	}
	if string(pong) != "PONG" {
		c.counters.Malformed.Add(1)
		return fail("PING: answers %q", cutText(string(pong), 64))
	}
	info, err := readReply(r)
	if errors.Is(err, errReply) {
		return warn("answers PING, but not INFO: %s", cutText(string(info), 100))
	}
	if err != nil {
		return failed("INFO", err)
	}
	return c.judge(info)
}

// appendCommand appends a command as an array of bulk strings (RESP "Sending commands
// to a Redis server"). Empty words are left out: AUTH has a form without a user.
func appendCommand(dst []byte, words ...string) []byte {
	n := 0
	for _, s := range words {
		if s != "" {
			n++
		}
	}
	dst = fmt.Appendf(dst, "*%d\r\n", n)
	for _, s := range words {
		if s != "" {
			dst = fmt.Appendf(dst, "$%d\r\n%s\r\n", len(s), s)
		}
	}
	return dst
}

// Errors of readReply.
var (
	errReply     = errors.New("the server refuses")
	errMalformed = errors.New("the answer is not of its protocol")
)

// readReply reads a simple string, a bulk string, a number or an error (RESP2), at
// most maxReplyBytes. An error reply is errReply with its text.
func readReply(r *bufio.Reader) ([]byte, error) {
	line, err := r.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		return nil, errMalformed
	}
	if err != nil {
		return nil, err
	}
	line, ok := bytes.CutSuffix(line, []byte("\r\n"))
	if !ok || len(line) == 0 {
		return nil, errMalformed
	}
	switch line[0] {
	case '+', ':':
		return bytes.Clone(line[1:]), nil
	case '-':
		return bytes.Clone(line[1:]), errReply
	case '$':
		n, err := strconv.ParseInt(string(line[1:]), 10, 32)
		if err != nil || n < 0 || n > maxReplyBytes {
			return nil, errMalformed
		}
		bulk := make([]byte, n+2)
		if _, err := io.ReadFull(r, bulk); err != nil {
			return nil, err
		}
		if !bytes.HasSuffix(bulk, []byte("\r\n")) {
			return nil, errMalformed
		}
		return bulk[:n], nil
	}
	return nil, errMalformed
}

// refused tells a result of a refusal. The words are those of Redis.
func (c *redis) refused(command string, reply []byte, err error) health.Result {
	if !errors.Is(err, errReply) {
		if errors.Is(err, errMalformed) {
			c.counters.Malformed.Add(1)
		}
		return failed(command, err)
	}
	text := cutText(string(reply), 100)
	switch code, _, _ := strings.Cut(text, " "); code {
	case "LOADING":
		return result(health.Starting, "%s", text)
	case "NOAUTH", "NOPERM":
		// It runs, but whether it has loaded its data and is what it should be is not
		// known without a password.
		return warn("answers, and wants a password: %s", text)
	}
	return fail("%s: %s", command, text)
}

// judge reads the section "Replication" of INFO.
func (c *redis) judge(info []byte) health.Result {
	field := map[string]string{}
	for line := range bytes.Lines(info) {
		if name, value, ok := strings.Cut(strings.TrimSpace(string(line)), ":"); ok {
			field[name] = value
		}
	}
	number := func(name string) int64 {
		n, err := strconv.ParseInt(field[name], 10, 64)
		if err != nil {
			return 0
		}
		return n
	}
	switch role := field["role"]; {
	case role == "slave" && c.role == "master", role == "master" && c.role == "replica":
		return fail("role is %s", role)
	case role == "slave" && field["master_link_status"] != "up":
		r := warn("replica, and its link to the master is %s", cutText(field["master_link_status"], 20))
		if field["master_sync_in_progress"] == "1" {
			r.Text += ", it is loading the master's data"
		}
		return r
	case role == "slave":
		lag := number("master_last_io_seconds_ago")
		r := pass("replica, linked to its master")
		if lag > c.maxLag {
			r = warn("replica, and has not heard from its master for more than %d s", c.maxLag)
		}
		return measured(r, "master_last_io_seconds", float64(lag))
	case role == "master":
		n := number("connected_slaves")
		r := pass("master")
		if n < c.minReplica {
			r = warn("master with %d replicas, and should have %d", n, c.minReplica)
		}
		return measured(r, "replicas", float64(n))
	case role == "sentinel":
		return pass("sentinel")
	}
	c.counters.Malformed.Add(1)
	return warn("answers PING, but INFO has no role")
}
