package health

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"sidecar/internal/health"
	"sidecar/internal/probe"
)

// server is a process of a real server that belongs to a test.
type server struct {
	t   *testing.T
	cmd *exec.Cmd
}

// startServer starts a program as the owner of its directory; its output is in a file
// there. It is killed at the end of the test.
func startServer(t *testing.T, dir, name string, args ...string) *server {
	t.Helper()
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	s := &server{t, ownersCommand(t, dir, name, args...)}
	s.cmd.Stdout, s.cmd.Stderr = log, log
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		s.signal(syscall.SIGKILL)
		s.cmd.Wait()
		if t.Failed() {
			said, _ := os.ReadFile(log.Name())
			t.Logf("%s said:\n%s", name, said[max(0, len(said)-3000):])
		}
	})
	return s
}

// signal sends a signal to the server and its children.
func (s *server) signal(sig syscall.Signal) { syscall.Kill(-s.cmd.Process.Pid, sig) }

// ownersCommand returns a command that runs as the owner of dir: PostgreSQL does not
// run as root.
func ownersCommand(t *testing.T, dir, name string, args ...string) *exec.Cmd {
	t.Helper()
	st, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	owner := st.Sys().(*syscall.Stat_t)
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + dir, "LC_ALL=C", "TZ=UTC"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if os.Getuid() == 0 {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: owner.Uid, Gid: owner.Gid}
	}
	return cmd
}

// serverDir returns a new directory with a short path, as that of a unix socket has
// to be, of a user that is not root.
func serverDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "hd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if os.Getuid() != 0 {
		return dir
	}
	nobody, err := user.Lookup("nobody")
	if err != nil {
		t.Fatal(err)
	}
	uid, err1 := strconv.Atoi(nobody.Uid)
	gid, err2 := strconv.Atoi(nobody.Gid)
	if err := errors.Join(err1, err2, os.Chown(dir, uid, gid)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// serverPort returns a port of the loopback that nobody listens on.
func serverPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return strconv.Itoa(l.Addr().(*net.TCPAddr).Port)
}

// program returns the path of a server's program. Without it the test is skipped, in
// CI it fails.
func program(t *testing.T, pattern string) string {
	t.Helper()
	found, err := filepath.Glob(pattern)
	if err == nil && len(found) == 0 {
		var path string
		if path, err = exec.LookPath(filepath.Base(pattern)); err == nil {
			found = []string{path}
		}
	}
	if len(found) > 0 {
		return found[len(found)-1]
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s: %v", pattern, err)
	}
	t.Skipf("no %s: run make setup", filepath.Base(pattern))
	return ""
}

// runCheck runs a check once.
func runCheck(t *testing.T, target string) health.Result {
	t.Helper()
	c, err := probe.Parse(target, nil, probe.Env{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), c.Timeout)
	defer cancel()
	return c.Run(ctx)
}

// eventually runs a check until it finds the state and the words.
func eventually(t *testing.T, target string, state health.State, words string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	var last health.Result
	for {
		last = runCheck(t, target)
		if last.State == state && strings.Contains(last.Text, words) {
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%s is %s %q after 30 s, want %s %q", target, last.State, last.Text, state, words)
		}
	}
}

// TestRedis: a real master and its replica, while one of them stands still or dies.
func TestRedis(t *testing.T) {
	redis := program(t, "/usr/bin/redis-server")
	dir, port, replicaPort := serverDir(t), serverPort(t), serverPort(t)
	socket := filepath.Join(dir, "master")
	common := []string{"--save", "", "--appendonly", "no", "--daemonize", "no", "--bind", "127.0.0.1", "--repl-ping-replica-period", "1", "--repl-diskless-sync-delay", "0"}
	start := func(args ...string) *server { return startServer(t, dir, redis, append(args, common...)...) }
	address := "redis://127.0.0.1:" + port
	eventually(t, address, health.Fail, "connection refused")
	master := start("--port", port, "--unixsocket", socket, "--dir", dir)
	eventually(t, address, health.Pass, "master")
	eventually(t, "redis://"+socket+"#role=master", health.Pass, "master")
	eventually(t, address+"#role=replica", health.Fail, "role is master")
	eventually(t, address+"#min_replicas=1", health.Warn, "master with 0 replicas")

	start("--port", replicaPort, "--replicaof", "127.0.0.1 "+port, "--dir", dir, "--dbfilename", "replica.rdb")
	replica := "redis://127.0.0.1:" + replicaPort + "#role=replica"
	eventually(t, replica, health.Pass, "linked to its master")
	eventually(t, address+"#min_replicas=1", health.Pass, "master")

	// A process that stands still accepts connections and does not answer.
	master.signal(syscall.SIGSTOP)
	eventually(t, address+"#timeout=200ms", health.Fail, "no answer in time")
	eventually(t, "tcp://127.0.0.1:"+port, health.Pass, "accepts connections")
	eventually(t, replica+"&max_lag=1s", health.Warn, "has not heard from its master")
	master.signal(syscall.SIGCONT)
	eventually(t, address, health.Pass, "master")
	eventually(t, replica+"&max_lag=3s", health.Pass, "linked")
	master.signal(syscall.SIGKILL)
	eventually(t, replica, health.Warn, "link to the master is down")
	eventually(t, address, health.Fail, "connection refused")
}

// TestRedisWithPassword: what is wrong is told, right and wrong passwords apart.
func TestRedisWithPassword(t *testing.T) {
	redis := program(t, "/usr/bin/redis-server")
	dir := serverDir(t)
	socket := filepath.Join(dir, "s")
	startServer(t, dir, redis, "--port", "0", "--unixsocket", socket, "--save", "", "--requirepass", "s3cret", "--dir", dir)
	eventually(t, "redis://"+socket, health.Warn, "NOAUTH")
	t.Setenv("HEALTH_TEST_PASSWORD", "s3cret")
	eventually(t, "redis://"+socket+"#password=env:HEALTH_TEST_PASSWORD", health.Pass, "master")
	eventually(t, "redis://"+socket+"#user=default&password=env:HEALTH_TEST_PASSWORD", health.Pass, "master")
	t.Setenv("HEALTH_TEST_PASSWORD", "other")
	eventually(t, "redis://"+socket+"#password=env:HEALTH_TEST_PASSWORD", health.Fail, "WRONGPASS")
}

// TestPostgreSQL: a real primary and its standby, with and without a login.
func TestPostgreSQL(t *testing.T) {
	bin := filepath.Dir(program(t, "/usr/lib/postgresql/*/bin/initdb"))
	dir, port, standbyPort := serverDir(t), serverPort(t), serverPort(t)
	tool := func(name string, args ...string) {
		t.Helper()
		if out, err := ownersCommand(t, dir, filepath.Join(bin, name), args...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", name, err, out)
		}
	}
	data, copied := filepath.Join(dir, "data"), filepath.Join(dir, "copy")
	tool("initdb", "-D", data, "-U", "healthd", "-A", "trust", "--no-sync")
	// The socket logs in without a password, the port wants one, replication aside.
	rules := "local all all trust\nhost replication all 127.0.0.1/32 trust\nhost all all 127.0.0.1/32 scram-sha-256\n"
	if err := os.WriteFile(filepath.Join(data, "pg_hba.conf"), []byte(rules), 0o600); err != nil {
		t.Fatal(err)
	}
	start := func(data, port string) *server {
		return startServer(t, dir, filepath.Join(bin, "postgres"), "-D", data, "-p", port, "-k", dir, "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off",
			"-c", "max_connections=5", "-c", "superuser_reserved_connections=0", "-c", "max_wal_senders=2")
	}
	byPort, bySocket := "postgresql://127.0.0.1:"+port, "postgresql://"+filepath.Join(dir, ".s.PGSQL."+port)
	eventually(t, byPort, health.Fail, "connection refused")
	primary := start(data, port)
	eventually(t, bySocket+"#role=primary", health.Pass, "primary, accepts sessions")
	eventually(t, bySocket+"#role=standby", health.Fail, "primary, and should be standby")
	eventually(t, byPort, health.Pass, "wants a password")
	eventually(t, byPort+"#role=primary", health.Warn, "not known")
	eventually(t, bySocket+"#user=nobody-here", health.Pass, `role "nobody-here" does not exist`)
	eventually(t, bySocket+"#database=nothing-here", health.Pass, "3D000")

	tool("pg_basebackup", "-D", copied, "-h", "127.0.0.1", "-p", port, "-U", "healthd", "-R", "--no-sync", "-c", "fast")
	start(copied, standbyPort)
	standby := "postgresql://" + filepath.Join(dir, ".s.PGSQL."+standbyPort)
	eventually(t, standby+"#role=standby", health.Pass, "standby, accepts sessions")
	eventually(t, standby+"#role=primary", health.Fail, "standby, and should be primary")

	// Sessions that sit there until there is no place left.
	var held []net.Conn
	for range 5 {
		held = append(held, session(t, filepath.Join(dir, ".s.PGSQL."+port)))
	}
	eventually(t, bySocket, health.Fail, "53300")
	// It waits for its sessions to end, and takes no new ones (smart shutdown).
	held[0].Close()
	eventually(t, bySocket, health.Pass, "primary")
	primary.cmd.Process.Signal(syscall.SIGTERM)
	eventually(t, bySocket, health.Starting, "57P03")
	for _, c := range held {
		c.Close()
	}
	eventually(t, byPort, health.Fail, "connection refused")
}

// session opens a session of PostgreSQL and leaves it open.
func session(t *testing.T, socket string) net.Conn {
	t.Helper()
	c, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	pairs := "user\x00healthd\x00database\x00postgres\x00\x00"
	fmt.Fprintf(c, "\x00\x00\x00%c\x00\x03\x00\x00%s", 8+len(pairs), pairs)
	if err := c.SetReadDeadline(time.Now().Add(90 * time.Second)); err != nil {
		t.Fatal(err)
	}
	var said []byte
	for buf := make([]byte, 1024); !bytes.Contains(said, []byte("Z\x00\x00\x00\x05I")); {
		n, err := c.Read(buf)
		if err != nil {
			t.Fatalf("open a session: %v after %q", err, said)
		}
		said = append(said, buf[:n]...)
	}
	return c
}
