// Package brokers runs the logship that is built against a RabbitMQ and a Kafka that
// are real, and kills them.
package brokers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// cache is where test/setup puts the engines.
const cache = "../../.cache"

// logship is the program under test, built once for all; immutable after TestMain.
var logship string

func TestMain(m *testing.M) {
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (int, error) {
	dir, err := os.MkdirTemp("", "brokers-*")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	logship = filepath.Join(dir, "logship")
	build := exec.Command("go", "build", "-trimpath", "-pgo=off", "-o", logship, "sidecar/cmd/logship")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return 0, fmt.Errorf("build logship: %w\n%s", err, out)
	}
	return m.Run(), nil
}

// engine is a broker in a directory and on ports of its own. What it stored is there
// again after a kill and a start.
type engine struct {
	dir     string
	address string // host:port for clients
	command func() *exec.Cmd
	// ready is what its log says when clients may come.
	ready string
	cmd   *exec.Cmd // nil while it is not running
}

// need skips a test without what test/setup should have put there; in CI it fails.
func need(t *testing.T, paths ...string) {
	t.Helper()
	for _, path := range paths {
		_, err := os.Stat(path)
		if err == nil {
			continue
		}
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skipf("%v: run make setup", err)
	}
}

// start starts the broker and returns when clients may come.
func (e *engine) start(t *testing.T) {
	t.Helper()
	begin := time.Now()
	log, err := os.Create(filepath.Join(e.dir, "log"))
	must(t, err)
	defer log.Close()
	e.cmd = e.command()
	e.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	e.cmd.Stdout, e.cmd.Stderr = log, log
	must(t, e.cmd.Start())
	ctx := within(t, time.Minute)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		said, err := os.ReadFile(log.Name())
		must(t, err)
		if bytes.Contains(said, []byte(e.ready)) {
			t.Logf("broker is ready after %v", time.Since(begin).Round(time.Millisecond))
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			e.kill()
			t.Fatalf("the broker is not ready in a minute:\n%s", said[max(0, len(said)-4000):])
		}
	}
}

// kill ends the broker as a loss of its process does.
func (e *engine) kill() {
	if e.cmd == nil {
		return
	}
	syscall.Kill(-e.cmd.Process.Pid, syscall.SIGKILL)
	e.cmd.Wait()
	e.cmd = nil
}

// freePort returns a port of the loopback that nobody listens on.
func freePort(t *testing.T) int {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port
}

// rabbitmq starts a node of RabbitMQ.
func rabbitmq(t *testing.T) *engine {
	t.Helper()
	root, err := filepath.Abs(filepath.Join(cache, "rabbitmq/usr/lib"))
	must(t, err)
	need(t, root)
	servers, err := filepath.Glob(filepath.Join(root, "rabbitmq/lib/rabbitmq_server-*/sbin"))
	if err != nil || len(servers) != 1 {
		t.Fatal(servers, err)
	}
	dir := t.TempDir()
	port, epmd := freePort(t), freePort(t)
	// As under systemd its script becomes the node, and is not beside it.
	env := append(os.Environ(), "HOME="+dir, "PATH="+filepath.Join(root, "erlang/bin")+":"+os.Getenv("PATH"),
		fmt.Sprint("ERL_EPMD_PORT=", epmd), "ERL_EPMD_ADDRESS=127.0.0.1",
		"RABBITMQ_NODENAME=logship@localhost", "RABBITMQ_CONF_ENV_FILE=/dev/null", "RUNNING_UNDER_SYSTEMD=true",
		fmt.Sprint("RABBITMQ_NODE_PORT=", port), "RABBITMQ_NODE_IP_ADDRESS=127.0.0.1", fmt.Sprint("RABBITMQ_DIST_PORT=", freePort(t)),
		"RABBITMQ_LOGS=-", "RABBITMQ_MNESIA_BASE="+filepath.Join(dir, "mnesia"), "RABBITMQ_PID_FILE="+filepath.Join(dir, "pid"),
		"RABBITMQ_ENABLED_PLUGINS_FILE="+filepath.Join(dir, "plugins"), "RABBITMQ_CONFIG_FILE="+filepath.Join(dir, "rabbitmq"),
		"RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=+sbwt none")
	// The name server of Erlang's nodes: without one of ours, the node leaves one behind.
	names := exec.Command(filepath.Join(root, "erlang/bin/epmd"), "-port", fmt.Sprint(epmd), "-address", "127.0.0.1")
	names.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	must(t, names.Start())
	e := &engine{dir: dir, address: fmt.Sprint("127.0.0.1:", port), ready: "Server startup complete"}
	e.command = func() *exec.Cmd {
		cmd := exec.Command(filepath.Join(servers[0], "rabbitmq-server"))
		cmd.Dir, cmd.Env = dir, env
		return cmd
	}
	t.Cleanup(func() {
		e.kill()
		names.Process.Kill()
		names.Wait()
	})
	e.start(t)
	return e
}

// rabbitmqctl runs RabbitMQ's own tool on the node.
func (e *engine) rabbitmqctl(t *testing.T, args ...string) {
	t.Helper()
	server := e.command()
	cmd := exec.CommandContext(within(t, time.Minute), filepath.Join(filepath.Dir(server.Path), "rabbitmqctl"), args...)
	cmd.Dir, cmd.Env = server.Dir, server.Env
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("rabbitmqctl %q: %v: %s", args, err, out)
	}
}

// kafkaBroker starts a Kafka of one node in KRaft mode.
func kafkaBroker(t *testing.T) *engine {
	t.Helper()
	jars, err := filepath.Abs(filepath.Join(cache, "kafka"))
	must(t, err)
	need(t, filepath.Join(jars, ".stamp"))
	dir := t.TempDir()
	port, controller := freePort(t), freePort(t)
	e := &engine{dir: dir, address: fmt.Sprint("127.0.0.1:", port), ready: "Kafka Server started"}
	properties := filepath.Join(dir, "server.properties")
	must(t, os.WriteFile(properties, fmt.Appendf(nil, `process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:%[2]d
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:%[1]d,CONTROLLER://127.0.0.1:%[2]d
advertised.listeners=PLAINTEXT://127.0.0.1:%[1]d
log.dirs=%[3]s
offsets.topic.replication.factor=1
auto.create.topics.enable=false
log.cleaner.dedupe.buffer.size=4194304
broker.session.timeout.ms=1000
broker.heartbeat.interval.ms=200
`, port, controller, filepath.Join(dir, "data")), 0o600))
	// Its log goes to standard output, at the level that tells when it is up.
	logging := filepath.Join(dir, "log4j2.properties")
	must(t, os.WriteFile(logging, []byte(`appender.out.type=Console
appender.out.name=out
rootLogger.level=INFO
rootLogger.appenderRef.out.ref=out
`), 0o600))
	java := func(main string, args ...string) *exec.Cmd {
		cmd := exec.Command("java", append([]string{"-Xms192m", "-Xmx192m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC",
			"-Dlog4j2.configurationFile=" + logging, "-cp", jars + "/*", main}, args...)...)
		cmd.Dir = dir
		return cmd
	}
	if out, err := java("kafka.tools.StorageTool", "format", "-t", "AAAAAAAAAAAAAAAAAAAAAA", "-c", properties).CombinedOutput(); err != nil {
		t.Fatalf("format the storage: %v: %s", err, out)
	}
	e.command = func() *exec.Cmd { return java("kafka.Kafka", properties) }
	t.Cleanup(e.kill)
	e.start(t)
	return e
}

// within returns a context for a step that must not hang.
func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}
