// Package probe looks whether a target is well: HTTP with the usual body formats,
// TCP, unix sockets, systemd units, certificates, backups, heartbeats, disks, Redis,
// MongoDB, PostgreSQL, MySQL, DNS, logship, and the healthd of another machine. A check
// is a function from the table in parse.go; the Scheduler runs checks in the background.
// There is no check that runs a command.
//
// What a target answers is foreign: each check bounds what it reads, follows no
// redirect, uses no proxy of the environment, and connects to this machine only,
// unless Env.AllowRemote says otherwise.
//
// It does not judge over time (rise and fall, staleness, the tree): that is
// internal/health. It does not find targets: that is internal/discover.
package probe
