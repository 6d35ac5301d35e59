//! Who may come in over the network. Absent: the server's own socket, whose lines a platform puts above these.

use super::settings::Transport;

/// Everybody shows a password, over TLS; whoever comes without TLS is refused before anything is asked. `all` as a
/// database does not mean replication, which has lines of its own.
pub fn hba(transport: Transport) -> &'static str {
    match transport {
        Transport::Tls => {
            "hostnossl all all all reject\n\
             hostnossl replication all all reject\n\
             hostssl all all 0.0.0.0/0 scram-sha-256\n\
             hostssl all all ::/0 scram-sha-256\n\
             hostssl replication all 0.0.0.0/0 scram-sha-256\n\
             hostssl replication all ::/0 scram-sha-256\n"
        }
        Transport::Loopback => {
            "host all all 127.0.0.1/32 scram-sha-256\n\
             host all all ::1/128 scram-sha-256\n\
             host replication all 127.0.0.1/32 scram-sha-256\n\
             host replication all ::1/128 scram-sha-256\n"
        }
    }
}
