//! Messages with open files, over a pair of sockets: how bake and its supervisor, and the
//! supervisor and its children, talk.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use serde::{Deserialize, Serialize};

/// Files in one datagram; the kernel takes 253 at most. More go in further datagrams.
const BATCH: usize = 64;
/// Longest message. Long things (plans) travel as files.
const LONGEST: usize = 16 * 1024;

/// Makes two connected ends; every message arrives whole, or not at all.
pub(super) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(rustix::net::socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )?)
}

/// Sends `message` and `files`. Two senders at once would get mixed up where there are many files:
/// hold a lock.
pub(super) fn send(
    socket: &OwnedFd,
    message: &impl Serialize,
    files: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let text = serde_json::to_vec(&(files.len(), message))?;
    let mut batches = files.chunks(BATCH);
    datagram(socket, &text, batches.next().unwrap_or_default())?;
    batches.try_for_each(|batch| datagram(socket, b"+", batch))
}

fn datagram(socket: &OwnedFd, text: &[u8], files: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !files.is_empty() && !control.push(SendAncillaryMessage::ScmRights(files)) {
        return Err(io::Error::other("too many files for one message"));
    }
    loop {
        match rustix::net::sendmsg(socket, &[IoSlice::new(text)], &mut control, SendFlags::NOSIGNAL)
        {
            Ok(_) => return Ok(()),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Waits for a message and its files; `None` at the end.
pub(super) fn receive<T: for<'a> Deserialize<'a>>(
    socket: &OwnedFd,
) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let mut files = vec![];
    let Some(text) = one(socket, &mut files)? else { return Ok(None) };
    let (count, message): (usize, T) = serde_json::from_slice(&text)?;
    while files.len() < count {
        let before = files.len();
        if one(socket, &mut files)?.is_none() || files.len() == before {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(Some((message, files)))
}

fn one(socket: &OwnedFd, files: &mut Vec<OwnedFd>) -> io::Result<Option<Vec<u8>>> {
    let mut text = vec![0; LONGEST];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(BATCH))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let got = loop {
        match rustix::net::recvmsg(
            socket,
            &mut [IoSliceMut::new(&mut text)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        ) {
            Err(rustix::io::Errno::INTR) => {}
            other => break other?,
        }
    };
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(got) = message {
            files.extend(got);
        }
    }
    if got.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        // Also where this process may open no more files.
        return Err(io::Error::other("a message did not arrive whole (too many open files?)"));
    }
    text.truncate(got.bytes);
    Ok((got.bytes > 0).then_some(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::io::Write;
    use std::os::fd::AsFd;

    #[test]
    fn files_arrive_in_order_however_many() {
        let (here, there) = pair().unwrap();
        for count in [0, 1, BATCH, BATCH + 1, 3 * BATCH + 7] {
            let pipes: Vec<_> = (0..count).map(|_| io::pipe().unwrap()).collect();
            let ends: Vec<BorrowedFd<'_>> = pipes.iter().map(|(_, write)| write.as_fd()).collect();
            send(&here, &"text", &ends).unwrap();
            let (text, files): (String, _) = receive(&there).unwrap().unwrap();
            assert_eq!((text.as_str(), files.len()), ("text", count));
            for (n, file) in files.into_iter().enumerate() {
                std::fs::File::from(file).write_all(&[n as u8]).unwrap();
                let mut byte = [0];
                (&pipes[n].0).read_exact(&mut byte).unwrap();
                assert_eq!(byte[0], n as u8);
            }
        }
        drop(here);
        assert!(receive::<String>(&there).unwrap().is_none());
    }

    #[test]
    fn nobody_there_is_an_error_and_no_signal() {
        let (here, there) = pair().unwrap();
        drop(there);
        assert_eq!(send(&here, &1, &[]).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
