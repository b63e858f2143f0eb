//! Asks for what a message says, `METHOD URL`, and answers with what came of it. `follow URL`
//! goes after redirects, `post-bytes N URL` sends so many bytes, `size URL` tells how many came.

use jackfield_sdk::http::{Error, Request, Response};
use jackfield_sdk::{ClientId, Message, Plugin, send_to_client};

struct Fetcher;

impl Plugin for Fetcher {
    fn on_message(client: ClientId, message: Message) {
        let words: Vec<_> = message.as_text().unwrap_or_default().split(' ').collect();
        let answer = match words.as_slice() {
            ["follow", url] => follow(url).map(told),
            ["post-bytes", bytes, url] => {
                let body = vec![b'x'; bytes.parse().unwrap_or_default()];
                Request::post(*url).body(body).send().map(told)
            }
            ["size", url] => Request::get(*url)
                .send()
                .map(|answer| format!("{} {}", answer.status, answer.body.len())),
            ["header", name, value, url] => {
                let request = Request::get(*url).header(*name, *value);
                request.send().map(told)
            }
            [method, url] => Request::new(*method, *url).send().map(told),
            other => Ok(format!("no command {other:?}")),
        };
        let answer = answer.unwrap_or_else(|error| format!("error: {error}"));
        let _ = send_to_client(&client, answer);
    }
}

jackfield_sdk::export!(Fetcher);

fn follow(url: &str) -> Result<Response, Error> {
    let mut answer = Request::get(url).send()?;
    while let (300..=399, Some(to)) = (answer.status, answer.header("location")) {
        answer = Request::get(to).send()?;
    }
    Ok(answer)
}

fn told(answer: Response) -> String {
    let text = answer.text().unwrap_or("no text");
    format!("{} {text}", answer.status)
}
