//! Queries over TCP (RFC 1035, section 4.2.2): each message behind its length.

use std::io;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::Mutex;

use super::rule::{Fate, Rule};
use crate::hold::redirect::{Meeting, upstream};
use crate::kernel::net::origin;

/// Serves one connection until either end has enough.
pub(super) async fn serve(rule: Arc<Rule>, meeting: Meeting) {
    let Meeting {
        client,
        to,
        mut stop,
    } = meeting;
    let Ok(resolver) = upstream(to).await else {
        // What the client would have met, as nearly as can be said now.
        origin::end_by_reset(&client);
        return;
    };
    let (asks, hears) = client.into_split();
    let (answers, asked) = resolver.into_split();
    let hears = Arc::new(Mutex::new(hears));
    tokio::select! {
        _ = queries(&rule, asks, asked, &hears) => {}
        _ = copy(answers, &hears) => {}
        // A query is over in a moment, and so is a connection for it: nothing is worth waiting for.
        _ = stop.wait_for(|stop| *stop) => {}
    }
}

async fn queries(
    rule: &Rule,
    mut client: impl AsyncRead + Unpin,
    mut resolver: impl AsyncWrite + Unpin,
    back: &Mutex<OwnedWriteHalf>,
) -> io::Result<()> {
    loop {
        let message = read(&mut client).await?;
        match rule.judge(&message) {
            Fate::Pass => write(&mut resolver, &message).await?,
            Fate::Answered(answer) => write(&mut *back.lock().await, &answer).await?,
            Fate::Dropped => {}
            Fate::Late(time) => {
                tokio::time::sleep(time).await;
                write(&mut resolver, &message).await?;
            }
        }
    }
}

async fn copy(
    mut resolver: impl AsyncRead + Unpin,
    back: &Mutex<OwnedWriteHalf>,
) -> io::Result<()> {
    loop {
        let message = read(&mut resolver).await?;
        write(&mut *back.lock().await, &message).await?;
    }
}

/// One message; at most 64 KiB, as its length has two bytes.
async fn read(from: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let length = from.read_u16().await?;
    let mut message = vec![0; usize::from(length)];
    from.read_exact(&mut message).await?;
    Ok(message)
}

/// Length and message in one piece: some resolvers expect them so.
async fn write(to: &mut (impl AsyncWrite + Unpin), message: &[u8]) -> io::Result<()> {
    let length = u16::try_from(message.len()).map_err(io::Error::other)?;
    let mut framed = length.to_be_bytes().to_vec();
    framed.extend(message);
    to.write_all(&framed).await
}
