//! The one audited place for socket options. Everything that `socket2` has a safe call for uses it; what is left are
//! pacing, bounds of the window and its buffer, and `TCP_INFO`, whose system calls are the only `unsafe` of the workspace.

#![allow(
    unsafe_code,
    reason = "SO_MAX_PACING_RATE, TCP_WINDOW_CLAMP, SO_BUF_LOCK and TCP_INFO have no safe wrapper"
)]

use std::io;
use std::mem::size_of;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::time::Duration;

use peerage_wire::IDLE_TIMEOUT;
use socket2::{SockRef, TcpKeepalive};

use crate::TransportError;

/// Bytes accepted by the kernel but not sent yet, above which the socket counts as full. Bounds how long a message
/// waits behind data and how soon a slowed-down sender really is slower, and is enough to keep a LAN busy between two
/// wake-ups.
pub const NOTSENT_LOWAT: u32 = 256 << 10;

/// "Lower effort" in the DS field of the IP header (RFC 8622 §1): the code point 000001 without the two ECN bits.
pub const DSCP_LE: u32 = 0x04;

/// What the kernel knows of the path of a connection (`TCP_INFO`). Fields that an older kernel lacks are zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PathInfo {
    /// Smoothed round trip.
    pub rtt: Duration,
    /// Its mean deviation.
    pub rtt_var: Duration,
    /// Shortest round trip in the kernel's window (5 min by default). Zero before the first sample.
    pub min_rtt: Duration,
    /// Smoothed round trip as a receiver sees it: from an acknowledgement to what it set free, by timestamps (RFC 7323 §3).
    /// Zero before the first sample.
    pub rcv_rtt: Duration,
    /// Time since data last arrived.
    pub quiet: Duration,
    /// Bytes in a full segment.
    pub mss: u32,
    /// As `mss`, of what arrives.
    pub rcv_mss: u32,
    /// Segments that arrived out of order, ever: behind each gap that a loss leaves come some.
    pub out_of_order: u32,
    /// Congestion window, in segments.
    pub cwnd: u32,
    /// Segments sent and not acknowledged.
    pub unacked: u32,
    /// Segments received, ever: acknowledgements, too.
    pub segments_in: u32,
    /// Segments thought lost at present.
    pub lost: u32,
    /// Segments sent again, ever.
    pub retransmitted: u32,
    /// Bytes written but not sent yet.
    pub notsent: u32,
    /// Rate at which the other side last received, in bytes/s.
    pub delivery_rate: u64,
    /// Whether that rate was limited by what there was to send and not by the path.
    pub app_limited: bool,
    /// Bytes that the other side has acknowledged.
    pub bytes_acked: u64,
    /// Bytes received.
    pub bytes_received: u64,
    /// Bytes sent, repetitions included.
    pub bytes_sent: u64,
    /// Thereof repetitions.
    pub bytes_resent: u64,
}

impl PathInfo {
    /// Reads the kernel's structure, of which a shorter one is a prefix (`struct tcp_info` in `linux/tcp.h`).
    fn parse(raw: &[u8]) -> Self {
        fn bytes<const N: usize>(raw: &[u8], at: usize) -> [u8; N] {
            raw.get(at..at + N).and_then(|field| field.try_into().ok()).unwrap_or([0; N])
        }
        let u32_at = |at| u32::from_ne_bytes(bytes(raw, at));
        let u64_at = |at| u64::from_ne_bytes(bytes(raw, at));
        let micros_at = |at| Duration::from_micros(u64::from(u32_at(at)));
        // The kernel says "no sample yet" with the largest value.
        let min_rtt = if u32_at(148) == u32::MAX { Duration::ZERO } else { micros_at(148) };
        let [flags] = bytes(raw, 7);
        Self {
            rtt: micros_at(68),
            rtt_var: micros_at(72),
            min_rtt,
            rcv_rtt: micros_at(92),
            quiet: Duration::from_millis(u64::from(u32_at(52))),
            mss: u32_at(16),
            rcv_mss: u32_at(20),
            out_of_order: u32_at(224),
            cwnd: u32_at(80),
            unacked: u32_at(24),
            segments_in: u32_at(140),
            lost: u32_at(32),
            retransmitted: u32_at(100),
            notsent: u32_at(144),
            delivery_rate: u64_at(160),
            // A bit field; compilers put its first bit lowest on little-endian machines and highest on others.
            app_limited: flags & if cfg!(target_endian = "little") { 0x01 } else { 0x80 } != 0,
            bytes_acked: u64_at(120),
            bytes_received: u64_at(128),
            bytes_sent: u64_at(200),
            bytes_resent: u64_at(208),
        }
    }
}

/// Names the option that an error is about.
fn option<T>(name: &'static str, result: io::Result<T>) -> Result<T, TransportError> {
    result.map_err(|source| TransportError::Option { name, source })
}

/// Congestion controls in order of preference; the system's own if the kernel allows neither.
///
/// Traffic that is to yield must back off at loss (RFC 6817 §2.4.1), which BBR, the default of some systems, does not.
/// BBR also sets a timer for every burst that it sends, which cost a quarter of the sender's processor time where
/// measured (a virtual machine, over loopback).
const CONGESTION: [&[u8]; 2] = [b"cubic", b"reno"];

/// What every peer connection has: no delay for small messages, a small backlog, a congestion control that heeds loss,
/// and an end when the other side has silently gone.
pub(crate) fn prepare(socket: &impl AsFd) -> Result<(), TransportError> {
    let socket = SockRef::from(socket);
    option("TCP_NODELAY", socket.set_tcp_nodelay(true))?;
    option("TCP_NOTSENT_LOWAT", socket.set_tcp_notsent_lowat(NOTSENT_LOWAT))?;
    // The system's own will do where neither is compiled in or allowed.
    let _ = CONGESTION.iter().any(|name| socket.set_tcp_congestion(name).is_ok());
    option("TCP_USER_TIMEOUT", socket.set_tcp_user_timeout(Some(IDLE_TIMEOUT)))?;
    let keepalive = TcpKeepalive::new().with_time(IDLE_TIMEOUT).with_interval(IDLE_TIMEOUT / 6);
    option("SO_KEEPALIVE", socket.set_tcp_keepalive(&keepalive))
}

/// Marks packets as lower effort, or as ordinary ones.
pub(crate) fn set_lower_effort(
    socket: &impl AsFd,
    local: SocketAddr,
    on: bool,
) -> Result<(), TransportError> {
    let socket = SockRef::from(socket);
    let value = if on { DSCP_LE } else { 0 };
    if local.is_ipv6() {
        option("IPV6_TCLASS", socket.set_tclass_v6(value))?;
    }
    // On an IPv6 socket this is for connections from IPv4, which a dual-stack listener takes.
    option("IP_TOS", socket.set_tos_v4(value))
}

/// Whether [`set_lower_effort`] is on.
pub(crate) fn lower_effort(socket: &impl AsFd, local: SocketAddr) -> Result<bool, TransportError> {
    let socket = SockRef::from(socket);
    let value = if local.is_ipv6() {
        option("IPV6_TCLASS", socket.tclass_v6())?
    } else {
        option("IP_TOS", socket.tos_v4())?
    };
    Ok(value == DSCP_LE)
}

/// Limits the rate of sending, in bytes/s; `None` lifts the limit.
pub(crate) fn set_pacing(socket: &impl AsFd, rate: Option<u64>) -> Result<(), TransportError> {
    let rate = rate.unwrap_or(u64::MAX).to_ne_bytes();
    option("SO_MAX_PACING_RATE", set(socket.as_fd(), libc::SOL_SOCKET, libc::SO_MAX_PACING_RATE, &rate))
}

/// Bounds the window that is offered to the other side, in bytes. The window never shrinks below what was offered before;
/// it closes as data arrives.
pub(crate) fn set_window(socket: &impl AsFd, bytes: u32) -> Result<(), TransportError> {
    let clamp = i32::try_from(bytes).unwrap_or(i32::MAX).to_ne_bytes();
    option("TCP_WINDOW_CLAMP", set(socket.as_fd(), libc::IPPROTO_TCP, libc::TCP_WINDOW_CLAMP, &clamp))
}

/// Which buffer sizes the kernel leaves alone (`SO_BUF_LOCK` of Linux 5.14, not in `libc` for all targets).
const SO_BUF_LOCK: i32 = 72;
/// What an unbounded buffer begins with; the kernel's own tuning goes on from there.
const OPEN_BUFFER: usize = 1 << 20;

/// Bounds what may wait unread, in bytes of the kernel's own accounting; `None`: the kernel tunes it again.
pub(crate) fn set_unread(socket: &impl AsFd, bytes: Option<u32>) -> Result<(), TransportError> {
    let size = bytes.map_or(OPEN_BUFFER, |bytes| bytes as usize);
    option("SO_RCVBUF", SockRef::from(socket).set_recv_buffer_size(size))?;
    if bytes.is_some() {
        return Ok(());
    }
    option("SO_BUF_LOCK", set(socket.as_fd(), libc::SOL_SOCKET, SO_BUF_LOCK, &0_i32.to_ne_bytes()))
}

/// Bounds the bytes that the kernel accepts beyond what is under way.
pub(crate) fn set_backlog(socket: &impl AsFd, bytes: u32) -> Result<(), TransportError> {
    option("TCP_NOTSENT_LOWAT", SockRef::from(socket).set_tcp_notsent_lowat(bytes))
}

/// The limit set by [`set_pacing`].
pub(crate) fn pacing(socket: &impl AsFd) -> Result<Option<u64>, TransportError> {
    let mut raw = [0; size_of::<u64>()];
    option("SO_MAX_PACING_RATE", get(socket.as_fd(), libc::SOL_SOCKET, libc::SO_MAX_PACING_RATE, &mut raw))?;
    Ok(Some(u64::from_ne_bytes(raw)).filter(|rate| *rate != u64::MAX))
}

/// Acknowledges now what has been read. Not remembered by the kernel (tcp(7), `TCP_QUICKACK`), and no loss where it fails.
pub(crate) fn acknowledge(socket: &impl AsFd) {
    let _ = SockRef::from(socket).set_tcp_quickack(true);
}

/// Reads `TCP_INFO`.
pub(crate) fn path_info(socket: &impl AsFd) -> Result<PathInfo, TransportError> {
    let mut raw = [0; 256];
    let len = option("TCP_INFO", get(socket.as_fd(), libc::IPPROTO_TCP, libc::TCP_INFO, &mut raw))?;
    Ok(PathInfo::parse(raw.get(..len).unwrap_or(&raw)))
}

/// Sets an option to the bytes of `value`.
fn set(socket: BorrowedFd<'_>, level: i32, name: i32, value: &[u8]) -> io::Result<()> {
    let len = value.len() as libc::socklen_t;
    // SAFETY: the descriptor is borrowed for the call, and the pointer and length are those of `value`.
    let result = unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, value.as_ptr().cast(), len) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Reads an option into `raw`; returns how many bytes the kernel filled.
fn get(socket: BorrowedFd<'_>, level: i32, name: i32, raw: &mut [u8]) -> io::Result<usize> {
    let mut len = raw.len() as libc::socklen_t;
    // SAFETY: the descriptor is borrowed for the call; `raw` is writable for `len` bytes, more the kernel does not write.
    let result =
        unsafe { libc::getsockopt(socket.as_raw_fd(), level, name, raw.as_mut_ptr().cast(), &raw mut len) };
    if result == 0 { Ok(len as usize) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_read_back_as_they_were_set() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        prepare(&socket).unwrap();
        let options = SockRef::from(&socket);
        assert!(options.tcp_nodelay().unwrap() && options.keepalive().unwrap());
        assert_eq!(options.tcp_notsent_lowat().unwrap(), NOTSENT_LOWAT);
        let congestion = options.tcp_congestion().unwrap();
        let congestion = congestion.split(|byte| *byte == 0).next().unwrap();
        assert!(
            CONGESTION.contains(&congestion),
            "{congestion:?}: reno is in every kernel, and always allowed"
        );
        assert_eq!(options.tcp_user_timeout().unwrap(), Some(IDLE_TIMEOUT));
        assert_eq!(options.tcp_keepalive_time().unwrap(), IDLE_TIMEOUT);
        set_lower_effort(&socket, socket.local_addr().unwrap(), true).unwrap();
        assert_eq!(options.tos_v4().unwrap(), DSCP_LE);
        assert_eq!(pacing(&socket).unwrap(), None);
        set_pacing(&socket, Some(10_000)).unwrap();
        assert_eq!(pacing(&socket).unwrap(), Some(10_000));
        set_pacing(&socket, None).unwrap();
        assert_eq!(pacing(&socket).unwrap(), None);
        set_window(&socket, 8192).unwrap();
        set_unread(&socket, Some(4096)).unwrap();
        assert_eq!(options.recv_buffer_size().unwrap(), 8192);
        set_unread(&socket, None).unwrap();
        assert!(options.recv_buffer_size().unwrap() > 8192);
        set_backlog(&socket, 4096).unwrap();
        assert_eq!(options.tcp_notsent_lowat().unwrap(), 4096);
    }

    #[test]
    fn an_option_that_fails_is_named() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let error = path_info(&socket).unwrap_err();
        assert!(matches!(error, TransportError::Option { name: "TCP_INFO", .. }), "{error:?}");
    }

    #[test]
    fn short_and_unsampled_infos_parse() {
        let mut raw = [0; 232];
        raw[7] = if cfg!(target_endian = "little") { 0x01 } else { 0x80 };
        raw[68..72].copy_from_slice(&1500_u32.to_ne_bytes());
        raw[148..152].copy_from_slice(&u32::MAX.to_ne_bytes());
        raw[160..168].copy_from_slice(&7_u64.to_ne_bytes());
        let info = PathInfo::parse(&raw);
        assert_eq!((info.rtt, info.min_rtt), (Duration::from_micros(1500), Duration::ZERO));
        assert_eq!((info.delivery_rate, info.app_limited), (7, true));
        // The structure of Linux 4.8 ended before the delivery rate.
        assert_eq!(PathInfo::parse(&raw[..160]).delivery_rate, 0);
        assert_eq!(PathInfo::parse(&[]), PathInfo::default());
    }
}
