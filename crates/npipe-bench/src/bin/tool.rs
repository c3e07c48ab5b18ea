//! `tool --npipe NPIPE --windows-npipe NPIPE.EXE --windows-peers PEERS.EXE`: the tool on Linux and
//! Windows together. A connection through the bridge beside a process for each connection, the way
//! of npiperelay with socat; bytes through `npipe connect` and through the bridge beside a pipe
//! with nothing around it.
//!
//! The Windows programs are files that Linux can start, such as scripts that run them under Wine.
//! The result is Markdown on standard output; standard error carries `progress: DONE/TOTAL LABEL`
//! lines.

#[cfg(unix)]
mod measure {
    use std::io::{self, BufRead, BufReader, Read, Write};
    use std::os::unix::net::UnixStream;
    use std::path::{Path, PathBuf};
    use std::process::{Child, Command, Stdio};
    use std::thread;
    use std::time::{Duration, Instant};

    use npipe_bench::markdown;
    use npipe_bench::statistics::{Summary, ratio};
    use npipe_bench::transfers::{CHUNK, Request};

    /// The tool, measured on both systems.
    #[derive(Debug, clap::Parser)]
    pub(crate) struct Arguments {
        /// The tool for this system
        #[arg(long)]
        npipe: PathBuf,
        /// A program that starts the tool for Windows
        #[arg(long)]
        windows_npipe: PathBuf,
        /// A program that starts the other benchmark, which is a Windows program
        #[arg(long)]
        windows_peers: PathBuf,
        /// A third of the rounds
        #[arg(long)]
        quick: bool,
    }

    /// Longer than any round; a hang must end.
    const LIMIT: Duration = Duration::from_secs(120);

    const MIB: u64 = 1 << 20;
    const BULK: u64 = 128 * MIB;
    /// A request that fits into any buffer: the connection is what is measured.
    const SMALL: Request = Request::Receive(64);

    /// A child that ends with this.
    struct Running(Child);

    impl Drop for Running {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    pub(crate) fn run(arguments: &Arguments) -> io::Result<String> {
        let folder = std::env::temp_dir().join(format!("npipe-bench-{}", std::process::id()));
        std::fs::create_dir(&folder)?;
        let result = measure(arguments, &folder);
        std::fs::remove_dir_all(&folder)?;
        result
    }

    fn measure(arguments: &Arguments, folder: &Path) -> io::Result<String> {
        let pipe = format!("npipe-bench-{}", std::process::id());
        let mut server = Command::new(&arguments.windows_peers);
        let _server = start(server.args(["--serve", &pipe]).stdout(Stdio::piped()))?;
        let forward = |socket: &Path, target: &str| {
            let listen = format!("unix:{}", socket.display());
            let mut command = Command::new(&arguments.npipe);
            command.args(["forward", &listen, target, "--windows-exe"]).arg(&arguments.windows_npipe);
            start(command.stderr(Stdio::piped()))
        };
        let bridge = folder.join("bridge.sock");
        let _bridge = forward(&bridge, &format!("npipe:{pipe}"))?;
        let each = folder.join("each.sock");
        // The flags that everybody has in their socat line.
        let connect = format!("exec:{} -ei -s //./pipe/{pipe}", arguments.windows_npipe.display());
        let _each = forward(&each, &connect)?;

        let mut progress =
            Progress { done: 0, total: 2 * 2 * (arguments.rounds() + 1) + 6 * (arguments.rounds() + 1) };
        let mut report =
            markdown::header(["connections", "through the bridge", "a process for each", "better by"]);
        for (title, at_once) in [("one after the other", 1), ("sixteen at a time", 16)] {
            let [bridge, each] = progress.alternate(
                arguments.rounds(),
                title,
                [&mut || connections(&bridge, at_once, 512), &mut || connections(&each, at_once, 32)],
            )?;
            report += &markdown::row([
                format!("{title}, connections a second"),
                number(&bridge),
                number(&each),
                shown(ratio(&bridge, &each)),
            ]);
            if at_once == 1 {
                let milliseconds = |rates: &[f64]| rates.iter().map(|rate| 1000.0 / rate).collect::<Vec<_>>();
                let (bridge, each) = (milliseconds(&bridge), milliseconds(&each));
                report += &markdown::row([
                    "one after the other, ms until the first byte".to_owned(),
                    number(&bridge),
                    number(&each),
                    shown(ratio(&each, &bridge)),
                ]);
            }
        }
        report += "\n";
        report += &markdown::header([
            "bulk, MiB/s",
            "bare pipe",
            "npipe connect",
            "bridge",
            "connect / bare",
            "bridge / bare",
        ]);
        for (title, request) in
            [("from the server", Request::Receive(BULK)), ("to the server", Request::Send(BULK))]
        {
            let [bare, connect, bridge] = progress.alternate(
                arguments.rounds(),
                title,
                [
                    &mut || bare(arguments, &pipe, request),
                    &mut || through_connect(arguments, &pipe, request),
                    &mut || through_socket(&bridge, request),
                ],
            )?;
            report += &markdown::row([
                title.to_owned(),
                number(&bare),
                number(&connect),
                number(&bridge),
                shown(ratio(&connect, &bare)),
                shown(ratio(&bridge, &bare)),
            ]);
        }
        Ok(report)
    }

    impl Arguments {
        fn rounds(&self) -> u32 {
            if self.quick { 3 } else { 9 }
        }
    }

    /// Starts a server and returns when it has said its first line, which is that it listens.
    fn start(command: &mut Command) -> io::Result<Running> {
        let mut server = Running(command.stdin(Stdio::null()).spawn()?);
        let said: Box<dyn Read + Send> = match (server.0.stdout.take(), server.0.stderr.take()) {
            (Some(stdout), _) => Box::new(stdout),
            (None, Some(stderr)) => Box::new(stderr),
            (None, None) => return Ok(server),
        };
        let mut said = BufReader::new(said);
        let mut line = String::new();
        said.read_line(&mut line)?;
        if !line.contains("listening") {
            return Err(io::Error::other(format!("{command:?} does not listen: {line}")));
        }
        thread::spawn(move || io::copy(&mut said, &mut io::stderr()));
        Ok(server)
    }

    /// Connections a second, each used for one answer.
    fn connections(socket: &Path, at_once: u32, times: u32) -> io::Result<f64> {
        let begun = Instant::now();
        thread::scope(|scope| {
            let clients: Vec<_> = (0..at_once)
                .map(|_| scope.spawn(|| (0..times / at_once).try_for_each(|_| one_connection(socket))))
                .collect();
            clients.into_iter().try_for_each(|client| client.join().expect("a client does not panic"))
        })?;
        Ok(f64::from(times) / begun.elapsed().as_secs_f64())
    }

    fn one_connection(socket: &Path) -> io::Result<()> {
        let mut server = connected(socket)?;
        server.write_all(&SMALL.encode())?;
        server.read_exact(&mut [0])?;
        SMALL.perform(&mut server, &mut [0; 64])
    }

    fn connected(socket: &Path) -> io::Result<UnixStream> {
        let server = UnixStream::connect(socket)?;
        server.set_read_timeout(Some(LIMIT))?;
        server.set_write_timeout(Some(LIMIT))?;
        Ok(server)
    }

    /// Each of these gives MiB/s.
    fn bare(arguments: &Arguments, pipe: &str, request: Request) -> io::Result<f64> {
        let mut client = Command::new(&arguments.windows_peers);
        let output =
            client.args(["--transfer", pipe]).args(request.words()).stderr(Stdio::inherit()).output()?;
        let said = String::from_utf8_lossy(&output.stdout);
        let seconds: f64 =
            said.trim().parse().map_err(|_| io::Error::other(format!("no seconds: {said}")))?;
        Ok(BULK as f64 / MIB as f64 / seconds)
    }

    fn through_connect(arguments: &Arguments, pipe: &str, request: Request) -> io::Result<f64> {
        let mut connect = Command::new(&arguments.windows_npipe);
        connect.args(["connect", "--exit-on-stdin-eof", &format!("npipe:{pipe}")]);
        connect.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = Running(connect.spawn()?);
        let streams = (process.0.stdout.take(), process.0.stdin.take());
        let (Some(stdout), Some(stdin)) = streams else { unreachable!("both are piped") };
        let mut joined = Joined(stdout, stdin);
        let speed = transfer(&mut joined, request)?;
        // What a process leaves to be cleaned up when it is killed would slow the next measurement.
        drop(joined.1);
        process.0.wait()?;
        Ok(speed)
    }

    fn through_socket(socket: &Path, request: Request) -> io::Result<f64> {
        transfer(&mut connected(socket)?, request)
    }

    fn transfer(server: &mut (impl Read + Write), request: Request) -> io::Result<f64> {
        server.write_all(&request.encode())?;
        server.read_exact(&mut [0])?;
        let begun = Instant::now();
        request.perform(server, &mut vec![0; CHUNK])?;
        Ok(BULK as f64 / MIB as f64 / begun.elapsed().as_secs_f64())
    }

    struct Joined<R, W>(R, W);

    impl<R: Read, W> Read for Joined<R, W> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0.read(buffer)
        }
    }

    impl<R, W: Write> Write for Joined<R, W> {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.1.write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            self.1.flush()
        }
    }

    struct Progress {
        done: u32,
        total: u32,
    }

    impl Progress {
        /// Runs the ways in turn, so that a round of each meets the same state of the machine. The
        /// first is not kept.
        fn alternate<const N: usize>(
            &mut self,
            rounds: u32,
            title: &str,
            mut ways: [&mut dyn FnMut() -> io::Result<f64>; N],
        ) -> io::Result<[Vec<f64>; N]> {
            let mut values = [const { Vec::new() }; N];
            for round in 0..=rounds {
                for (way, values) in ways.iter_mut().zip(&mut values) {
                    self.done += 1;
                    eprintln!("progress: {}/{} {title}", self.done, self.total);
                    let value = way()?;
                    if round > 0 {
                        values.push(value);
                    }
                }
            }
            Ok(values)
        }
    }

    fn number(values: &[f64]) -> String {
        let median = Summary::of(values.iter().copied()).map_or(f64::NAN, |summary| summary.median);
        if median < 10.0 { format!("{median:.2}") } else { format!("{median:.0}") }
    }

    fn shown(ratio: Option<Summary>) -> String {
        ratio.map_or_else(
            || "-".to_owned(),
            |ratio| format!("{:.2} ({:.2}..{:.2})", ratio.median, ratio.min, ratio.max),
        )
    }
}

fn main() -> std::process::ExitCode {
    #[cfg(unix)]
    match measure::run(&clap::Parser::parse()) {
        Ok(report) => print!("{report}"),
        Err(error) => {
            eprintln!("{error}");
            return std::process::ExitCode::FAILURE;
        }
    }
    #[cfg(not(unix))]
    eprintln!("the bridge is for Linux: this is built and run there");
    std::process::ExitCode::SUCCESS
}
