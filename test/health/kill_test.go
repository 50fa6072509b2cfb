package health

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"sidecar/internal/health"
	"sidecar/test/machine"
)

// killed is a healthd that is killed over and over, in a directory of its own.
type killed struct {
	t      *testing.T
	bin    string
	dir    string
	client http.Client
	cmd    *exec.Cmd
	said   bytes.Buffer
}

func newKilled(t *testing.T, config string) *killed {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "hk") // short, as the path of a socket has to be
	must(t, err)
	k := &killed{t: t, bin: machine.BuildCommand(t, "healthd"), dir: dir}
	config = fmt.Sprintf("[state]\ndir = '%[1]s/state'\n[public]\nlisten = ['unix:%[1]s/public']\n[private]\nlisten = []\nsocket = '%[1]s/private'\n[discover]\nenabled = false\n", dir) + config
	must(t, os.WriteFile(filepath.Join(dir, "healthd.toml"), []byte(config), 0o600))
	k.client = http.Client{Timeout: time.Minute, Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", filepath.Join(dir, "private"))
	}}}
	t.Cleanup(func() {
		k.kill()
		must(t, os.RemoveAll(dir))
	})
	return k
}

func (k *killed) start() {
	k.t.Helper()
	k.said.Reset()
	k.cmd = exec.Command(k.bin, "run", "--config", filepath.Join(k.dir, "healthd.toml"))
	k.cmd.Stderr = &k.said
	k.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	must(k.t, k.cmd.Start())
}

// kill ends it at once, and waits until it is gone.
func (k *killed) kill() {
	if k.cmd != nil {
		_ = k.cmd.Process.Kill()
		_ = k.cmd.Wait()
		k.cmd = nil
	}
}

// maintain puts a node in maintenance, and returns when that is stored.
func (k *killed) maintain(node string, until time.Time) error {
	body, err := json.Marshal(map[string]any{"node": node, "until": until})
	if err != nil {
		return err
	}
	r, err := k.client.Post("http://healthd/maintenance", "application/json", bytes.NewReader(body))
	if err != nil {
		return err
	}
	defer r.Body.Close()
	if r.StatusCode != http.StatusOK {
		return errors.New(r.Status)
	}
	return nil
}

// nodes waits until the nodes are as they should be, and returns them by ID.
func (k *killed) nodes(done func(map[string]health.NodeState) bool) map[string]health.NodeState {
	k.t.Helper()
	ctx, cancel := context.WithTimeout(k.t.Context(), 90*time.Second)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		all := map[string]health.NodeState{}
		if r, err := k.client.Get("http://healthd/health/full"); err == nil {
			var s health.Snapshot
			err = json.NewDecoder(r.Body).Decode(&s)
			r.Body.Close()
			for _, n := range s.Nodes {
				all[n.ID] = n
			}
			if err == nil && r.StatusCode == http.StatusOK && done(all) {
				return all
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			k.kill()
			k.t.Fatalf("the nodes are %+v\nhealthd said:\n%s", all, &k.said)
		}
	}
}

// TestKillLoop kills healthd at any moment, also while it writes its state: what it has
// acknowledged, judged and counted goes on, and nothing is ever torn.
func TestKillLoop(t *testing.T) {
	var down atomic.Bool
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if down.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer web.Close()
	const rounds, fall = 7, 6
	target := func(name, more string) string {
		return fmt.Sprintf("[target.%s]\nchecks = ['%s/#every=1m']\nrise = 1\nhold = '0s'\n%s\n", name, web.URL, more)
	}
	// counted fails after more results than it sees in one life.
	k := newKilled(t, target("early", "fall = 1")+target("counted", fmt.Sprintf("fall = %d", fall))+target("job", "fall = 1"))
	k.start()
	k.nodes(func(n map[string]health.NodeState) bool {
		return n["early"].State == health.Pass && n["counted"].State == health.Pass && n["job"].State == health.Pass
	})
	down.Store(true)
	until := time.Now().Add(24 * time.Hour).Round(time.Second)
	must(t, k.maintain("job", until))
	k.kill()

	var failed health.NodeState // early, as it was when it failed
	for round := range rounds {
		began := time.Now()
		k.start()
		after := k.nodes(func(n map[string]health.NodeState) bool {
			return n["counted"].CheckedAt.After(began) && n["early"].State == health.Fail
		})
		if got := after["job"].Until; got.Before(until) {
			t.Fatalf("round %d: maintenance until %v, acknowledged was %v", round, got, until)
		}
		if round == 0 {
			failed = after["early"]
		} else if n := after["early"]; !n.Since.Equal(failed.Since) || len(n.Transitions) != len(failed.Transitions) {
			t.Fatalf("round %d: failed since %v after %v, before since %v after %v", round, n.Since, n.Transitions, failed.Since, failed.Transitions)
		}
		if n := after["counted"]; round == rounds-1 && n.State != health.Fail {
			t.Fatalf("%s after %d lives with a failure each", n.State, rounds)
		}
		// One that is stored for certain, with the results so far; then more, until it dies
		// in the middle of one.
		until = until.Add(time.Second)
		must(t, k.maintain("job", until))
		dies := time.AfterFunc(rand.N(50*time.Millisecond), func() { _ = k.cmd.Process.Kill() })
		for k.maintain("job", until.Add(time.Second)) == nil {
			until = until.Add(time.Second)
		}
		dies.Stop()
		k.kill()
		if bytes.Contains(k.said.Bytes(), []byte("of no use")) {
			t.Fatalf("round %d: the state is torn: %s", round, &k.said)
		}
		if b, err := os.ReadFile(filepath.Join(k.dir, "state", "state.json")); err != nil || !json.Valid(b) {
			t.Fatalf("round %d: %v %q", round, err, b)
		}
	}
	if torn, err := filepath.Glob(filepath.Join(k.dir, "state", "*.bad")); err != nil || len(torn) > 0 {
		t.Errorf("%v %v", torn, err)
	}
}
