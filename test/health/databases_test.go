package health

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"sidecar/internal/health"
)

// TestMySQL: a real MariaDB, with users that may log in and such that may not, while it
// is full, stands still, stops and dies.
func TestMySQL(t *testing.T) {
	mariadbd, install := program(t, "/usr/sbin/mariadbd"), program(t, "/usr/bin/mariadb-install-db")
	dir, port := serverDir(t), serverPort(t)
	data, socket := filepath.Join(dir, "data"), filepath.Join(dir, "s")
	// A user per way to log in, and one that is locked out.
	users := filepath.Join(dir, "users.sql")
	must(t, os.WriteFile(users, []byte("CREATE OR REPLACE USER healthd@localhost;\n"+
		"CREATE OR REPLACE USER secret@localhost IDENTIFIED BY 's3cret';\n"+
		"CREATE OR REPLACE USER root2@localhost IDENTIFIED VIA unix_socket;\n"+
		"CREATE OR REPLACE USER locked@localhost ACCOUNT LOCK;\n"), 0o644))
	if out, err := ownersCommand(t, dir, install, "--no-defaults", "--datadir="+data, "--auth-root-authentication-method=normal", "--skip-test-db", "--skip-log-bin").CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", install, err, out)
	}
	start := func() *server {
		return startServer(t, dir, mariadbd, "--no-defaults", "--datadir="+data, "--socket="+socket, "--pid-file="+dir+"/pid", "--bind-address=127.0.0.1", "--port="+port,
			"--innodb-buffer-pool-size=16M", "--innodb-flush-log-at-trx-commit=0", "--max-connections=10", "--max-connect-errors=3", "--init-file="+users)
	}
	byPort, bySocket := "mysql://127.0.0.1:"+port, "mysql://"+socket
	eventually(t, byPort, health.Fail, "connection refused")
	eventually(t, bySocket, health.Fail, "no such file")
	db := start()
	eventually(t, bySocket, health.Pass, "accepts sessions, version 1")
	eventually(t, byPort, health.Pass, "accepts sessions, version 1")
	// Who is not let in has an answer of a server that works; that many of them in a row
	// do not make it block this host (max_connect_errors).
	for _, user := range []string{"secret", "root2", "locked", "nobody-here"} {
		for range 4 {
			eventually(t, byPort+"#user="+user, health.Pass, "not that of this user")
		}
	}
	eventually(t, byPort, health.Pass, "accepts sessions, version 1")
	eventually(t, "tcp://127.0.0.1:"+port, health.Pass, "accepts connections")

	// Connections until there is no place left: those that have not logged in count too,
	// and one is kept for the administrator.
	var held []net.Conn
	for range 11 {
		c, err := net.Dial("unix", socket)
		must(t, err)
		defer c.Close()
		if _, err := c.Read(make([]byte, 200)); err != nil { // its greeting, or why there is none
			t.Fatal(err)
		}
		held = append(held, c)
	}
	eventually(t, byPort, health.Fail, "Too many connections (1040)")
	for _, c := range held {
		c.Close()
	}
	eventually(t, bySocket, health.Pass, "accepts sessions, version 1")

	db.signal(syscall.SIGSTOP)
	eventually(t, byPort+"#timeout=200ms", health.Fail, "no answer in time")
	db.signal(syscall.SIGCONT)
	eventually(t, byPort, health.Pass, "accepts sessions")
	db.signal(syscall.SIGKILL)
	eventually(t, byPort, health.Fail, "connection refused")
	db.cmd.Wait()
	db = start()
	eventually(t, byPort, health.Pass, "accepts sessions, version 1")
	db.signal(syscall.SIGTERM)
	eventually(t, byPort, health.Fail, "connection refused")
}

// TestMongoDB: a server that is not of MongoDB's code. It answers isMaster, not hello,
// as MongoDB before 4.4.2, and knows no replica sets.
func TestMongoDB(t *testing.T) {
	java := program(t, "/usr/bin/java")
	jars, err := filepath.Abs("../../.cache/mongodb")
	must(t, err)
	program(t, filepath.Join(jars, "mongo-java-server-*.jar"))
	// It listens on port 27017 of localhost, whatever else may listen there: this is the
	// localhost of this process alone.
	dir := serverDir(t)
	address := fmt.Sprintf("127.%d.%d.%d", 1+os.Getpid()>>16&0x7f, os.Getpid()>>8&0xff, os.Getpid()&0xff|1)
	hosts := filepath.Join(dir, "hosts")
	must(t, os.WriteFile(hosts, []byte(address+" localhost\n"), 0o644))
	target := "mongodb://" + address + ":27017"
	eventually(t, target, health.Fail, "connection refused")
	db := startServer(t, dir, java, "-Xmx64m", "-Djdk.net.hosts.file="+hosts, "-cp", jars+"/*", "de.bwaldvogel.mongo.InMemoryMongoServer")
	eventually(t, target, health.Pass, "standalone")
	eventually(t, target+"#role=primary", health.Pass, "standalone")
	eventually(t, target+"#role=secondary", health.Fail, "should be secondary")
	eventually(t, target+"#set=rs0", health.Fail, `the replica set is "", not "rs0"`)
	db.signal(syscall.SIGSTOP)
	eventually(t, target+"#timeout=200ms", health.Fail, "no answer in time")
	db.signal(syscall.SIGCONT)
	eventually(t, target, health.Pass, "standalone")
	db.signal(syscall.SIGKILL)
	eventually(t, target, health.Fail, "connection refused")
}

// TestDNS: a real dnsmasq, with names that exist, do not, and are nobody's business.
func TestDNS(t *testing.T) {
	dnsmasq := program(t, "/usr/sbin/dnsmasq")
	dir, port := serverDir(t), serverPort(t)
	server := "dns://127.0.0.1:" + port + "/"
	eventually(t, server+"app.test", health.Fail, "connection refused")
	dns := startServer(t, dir, dnsmasq, "--keep-in-foreground", "--conf-file=/dev/null", "--pid-file=", "--user=", "--no-resolv", "--no-hosts", "--listen-address=127.0.0.1", "--bind-interfaces", "--port="+port,
		"--host-record=app.test,192.0.2.1,2001:db8::1", "--cname=www.test,app.test",
		"--mx-host=app.test,mail.test,10", "--txt-record=app.test,"+strings.Repeat("x", 200), "--local=/test/")
	eventually(t, server+"app.test", health.Pass, "answers")
	eventually(t, server+"app.test#expect=192.0.2.1", health.Pass, "answers")
	eventually(t, server+"app.test#expect=192.0.2.9", health.Fail, "the answer has no 192.0.2.9")
	eventually(t, server+"app.test#type=AAAA&expect=2001:db8::1", health.Pass, "answers")
	eventually(t, server+"www.test#expect=192.0.2.1", health.Pass, "answers")
	eventually(t, server+"www.test#type=CNAME", health.Pass, "answers")
	eventually(t, server+"app.test#type=MX", health.Pass, "answers")
	eventually(t, server+"app.test#type=TXT", health.Pass, "answers")
	eventually(t, server+"app.test#type=NS", health.Fail, "no such record")
	eventually(t, server+"nobody.test", health.Fail, "NameError")
	eventually(t, server+"example.com", health.Fail, "Refused")
	dns.signal(syscall.SIGSTOP)
	eventually(t, server+"app.test#timeout=200ms", health.Fail, "no answer in time")
	dns.signal(syscall.SIGCONT)
	eventually(t, server+"app.test", health.Pass, "answers")
	dns.signal(syscall.SIGKILL)
	eventually(t, server+"app.test", health.Fail, "connection refused")
}
