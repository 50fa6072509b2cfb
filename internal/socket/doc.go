// Package socket opens the sockets on which inputs take messages in, or takes over those
// that systemd passes to the process: of socket units (systemd.socket(5)), and those that
// an earlier process has left in its FD store. It does not read them: packages syslog and
// gelfin do.
//
// Sources: sd_listen_fds(3), sd_pid_notify_with_fds(3).
package socket
