//! The other side of a connection where no real server can be made to misbehave: whoever connects hears some bytes, whatever they say.

use lab::world::Result;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::thread;

/// Says `bytes` to whoever has said something, and hangs up.
pub(crate) fn saying(bytes: &'static [u8]) -> Result<SocketAddr> {
    serve(move |stream| {
        let _heard = stream.read(&mut [0; 1024]);
        let _said = stream.write_all(bytes);
        // Hung up on with unread bytes, the other side might lose what was said.
        let _ended = stream.shutdown(std::net::Shutdown::Write);
        let _rest = stream.read_to_end(&mut Vec::new());
    })
}

/// Takes connections and never says a word.
pub(crate) fn silent() -> Result<SocketAddr> {
    serve(|stream| {
        let _until_the_other_side_has_enough = stream.read_to_end(&mut Vec::new());
    })
}

fn serve(each: impl Fn(&mut std::net::TcpStream) + Send + Clone + 'static) -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let each = each.clone();
            thread::spawn(move || each(&mut stream));
        }
    });
    Ok(address)
}

/// Answers each packet with what `answer` makes of it.
pub(crate) fn packets(answer: impl Fn(&[u8]) -> Vec<u8> + Send + 'static) -> Result<SocketAddr> {
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    let address = socket.local_addr()?;
    thread::spawn(move || {
        let mut packet = [0; 1024];
        while let Ok((length, from)) = socket.recv_from(&mut packet) {
            let _sent = socket.send_to(&answer(&packet[..length]), from);
        }
    });
    Ok(address)
}
