//! What the stand-in keeps of its clients, and the rules for changing it.
//!
//! Uids and groups are looked up among the clients: no index can disagree with them, and a
//! test's clients are few.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::{Rc, Weak};
use std::sync::atomic::{AtomicU64, Ordering};

use super::checks::{Close, check_count, check_id, check_limit, digits, error, invalid};
use super::keyvalue::Buckets;
use super::manifest::RequireUid;
use super::pages::Pages;
use super::timers::Timers;
use super::{AnswerHttp, Host, Limits, UidPolicy};
use crate::{
    Accept, CallError, CallErrorCode, Caller, ClientId, Closer, Count, Departure, Error, ErrorCode,
    Info, Level, Message, Reach, Refuse,
};

/// How many calls within calls there may be.
const CALL_DEPTH: usize = 4;

/// How a client is closed whose uid goes to another one.
const KICKED: (u16, &str) = (4001, "uid taken over");

pub(super) struct Node {
    pub(super) uid_policy: UidPolicy,
    pub(super) limits: Limits,
    pub(super) plugin: String,
    pub(super) incarnation: String,
    pub(super) logs: Vec<(Level, String)>,
    /// The plugins that may call this one.
    pub(super) callers: Vec<String>,
    /// Where the manifest says that a uid is.
    pub(super) require_uid: Option<RequireUid>,
    /// The plugin's settings, by name.
    pub(super) settings: BTreeMap<String, String>,
    /// Its buckets, those that are granted, with what is in them.
    pub(super) buckets: Buckets,
    /// What answers its requests.
    pub(super) answer_http: Option<AnswerHttp>,
    /// The plugins on the same node.
    pub(super) callees: Vec<Callee>,
    /// The event (or the test's own call) that runs.
    pub(super) turn: Option<Turn>,
    clients: BTreeMap<ClientId, Record>,
    clients_so_far: u64,
    /// Those who have left, and whose `on_close` has not run.
    departed: VecDeque<Departed>,
    pub(super) pages: Pages,
    pub(super) timers: Timers,
}

/// Another plugin on the same node, which may well have this one as its own callee.
#[derive(Clone)]
pub(super) struct Callee {
    pub(super) node: Weak<RefCell<Node>>,
    pub(super) on_call: OnCall,
}

pub(super) type OnCall = fn(Caller, &str, Vec<u8>) -> Result<Vec<u8>, CallError>;

/// One event, or a test's own calls in one go.
#[derive(Default)]
pub(super) struct Turn {
    pub(super) sends: usize,
    pub(super) log_lines: usize,
    /// How many calls deep it is: 0, but in `on_call`.
    pub(super) depth: usize,
    /// The client whose event this is.
    pub(super) client: Option<ClientId>,
    /// Whether this is that client's `on_close`.
    is_last: bool,
    in_event: bool,
}

/// What a client keeps of what happened to it, also when the node has forgotten it.
#[derive(Default)]
pub(super) struct Mailbox {
    pub(super) messages: Vec<Message>,
    pub(super) closed: Option<(u16, String)>,
}

pub(super) type OnClose = fn(ClientId, Departure);

pub(super) struct Departed {
    pub(super) client: ClientId,
    pub(super) departure: Departure,
    pub(super) on_close: OnClose,
}

pub(super) struct Record {
    pub(super) uid: Option<String>,
    pub(super) groups: BTreeSet<String>,
    pub(super) info: Info,
    mailbox: Rc<RefCell<Mailbox>>,
    on_close: OnClose,
}

impl Turn {
    pub(super) fn event() -> Turn {
        Turn {
            in_event: true,
            ..Turn::default()
        }
    }

    pub(super) fn call(depth: usize) -> Turn {
        Turn {
            depth,
            ..Turn::event()
        }
    }

    pub(super) fn event_of(client: &ClientId) -> Turn {
        Turn {
            client: Some(client.clone()),
            ..Turn::event()
        }
    }

    pub(super) fn close_of(client: &ClientId) -> Turn {
        Turn {
            is_last: true,
            ..Turn::event_of(client)
        }
    }
}

impl Callee {
    /// The plugin's host, and what it answers with, if that is its name.
    pub(super) fn named(&self, name: &str) -> Option<(Host, OnCall)> {
        let node = self.node.upgrade()?;
        let is_it = node.borrow().plugin == name;
        is_it.then(|| (Host::at(node), self.on_call))
    }
}

impl Record {
    pub(super) fn receive(&self, message: Message) {
        self.mailbox.borrow_mut().messages.push(message);
    }
}

impl Node {
    pub(super) fn new() -> Node {
        // Every host is a new incarnation: no id is used twice in one process.
        static INCARNATIONS: AtomicU64 = AtomicU64::new(1);
        let incarnation = INCARNATIONS.fetch_add(1, Ordering::Relaxed);
        Node {
            uid_policy: UidPolicy::default(),
            limits: Limits::default(),
            plugin: "plugin".to_owned(),
            incarnation: digits(incarnation),
            logs: Vec::new(),
            callers: Vec::new(),
            require_uid: None,
            settings: BTreeMap::new(),
            buckets: Buckets::new(),
            answer_http: None,
            callees: Vec::new(),
            turn: None,
            clients: BTreeMap::new(),
            clients_so_far: 0,
            departed: VecDeque::new(),
            pages: Pages::default(),
            timers: Timers::default(),
        }
    }

    /// Makes this the running turn; answers the one around it.
    pub(super) fn begin(&mut self, mut turn: Turn) -> Option<Turn> {
        turn.in_event |= self.turn.as_ref().is_some_and(|outer| outer.in_event);
        self.turn.replace(turn)
    }

    /// Who is to have an `on_close` now: nobody while an event runs.
    pub(super) fn next_departed(&mut self) -> Option<Departed> {
        let in_event = self.turn.as_ref().is_some_and(|turn| turn.in_event);
        if in_event {
            None
        } else {
            self.departed.pop_front()
        }
    }

    // Clients come and go.

    pub(super) fn register(&mut self, on_close: OnClose) -> (ClientId, Rc<RefCell<Mailbox>>) {
        self.clients_so_far += 1;
        let id = ClientId::from(format!(
            "{}{}",
            self.incarnation,
            digits(self.clients_so_far)
        ));
        let mailbox = Rc::new(RefCell::new(Mailbox::default()));
        let record = Record {
            uid: None,
            groups: BTreeSet::new(),
            info: Info::new(),
            mailbox: mailbox.clone(),
            on_close,
        };
        self.clients.insert(id.clone(), record);
        (id, mailbox)
    }

    /// Does what `on_connect` answered. A client that does not come in was never there.
    pub(super) fn admit(
        &mut self,
        client: &ClientId,
        answer: Result<Accept, Refuse>,
        offered: &[String],
    ) -> Result<Option<String>, Refuse> {
        let admitted = answer.and_then(|accept| self.apply(client, accept, offered));
        if admitted.is_err() {
            self.clients.remove(client);
            self.departed.retain(|departed| departed.client != *client);
        }
        admitted.map_err(|refuse| match refuse.status {
            400..=599 => refuse,
            _ => Refuse {
                status: 403,
                ..refuse
            },
        })
    }

    /// What the plugin accepts with; the uid that was found where it has given none.
    pub(super) fn with_uid(
        &self,
        client: &ClientId,
        mut accept: Accept,
        found: Option<String>,
    ) -> Accept {
        let record = self.clients.get(client);
        let is_bound = record.is_some_and(|record| record.uid.is_some());
        if accept.uid.is_none() && !is_bound {
            accept.uid = found;
        }
        accept
    }

    fn apply(
        &mut self,
        client: &ClientId,
        accept: Accept,
        offered: &[String],
    ) -> Result<Option<String>, Refuse> {
        let Accept {
            subprotocol,
            uid,
            groups,
            info,
        } = accept;
        if let Some(name) = subprotocol.as_ref().filter(|name| !offered.contains(name)) {
            return Err(Refuse::new(
                500,
                format!("the subprotocol `{name}` was not offered"),
            ));
        }
        let result = if self.has(client) {
            self.apply_state(client, uid, groups, info)
        } else {
            Ok(()) // its own on_connect has closed it
        };
        match result {
            Ok(()) => Ok(subprotocol),
            Err(error) => {
                let status = match error.code {
                    ErrorCode::Taken => 409,
                    ErrorCode::InvalidArgument => 400,
                    _ => 500,
                };
                Err(Refuse::new(status, error.message))
            }
        }
    }

    /// The uid comes last: with `kick-old` it is what can't be taken back.
    fn apply_state(
        &mut self,
        client: &ClientId,
        uid: Option<String>,
        groups: Vec<String>,
        info: Info,
    ) -> Result<(), Error> {
        for group in &groups {
            self.join(client, group)?;
        }
        if !info.is_empty() {
            self.set_info(client, info)?;
        }
        uid.map_or(Ok(()), |uid| self.bind(client, &uid))
    }

    pub(super) fn has(&self, client: &ClientId) -> bool {
        self.clients.contains_key(client)
    }

    /// The client leaves at once; its `on_close` waits until the event that runs has ended.
    pub(super) fn depart(&mut self, client: &ClientId, code: u16, reason: &str, by: Closer) {
        let Some(record) = self.clients.remove(client) else {
            return;
        };
        let departure = Departure {
            code,
            reason: reason.to_owned(),
            by,
            uid: record.uid,
            groups: record.groups.into_iter().collect(),
            info: record.info,
        };
        let on_close = record.on_close;
        self.departed.push_back(Departed {
            client: client.clone(),
            departure,
            on_close,
        });
    }

    pub(super) fn close(&mut self, client: &ClientId, close: &Close<'_>) {
        if let Some(record) = self.clients.get(client) {
            let mut mailbox = record.mailbox.borrow_mut();
            mailbox.messages.extend(close.last_message.clone());
            mailbox.closed = Some((close.code, close.reason.to_owned()));
        }
        self.depart(client, close.code, close.reason, Closer::Plugin);
    }

    pub(super) fn close_all(&mut self, clients: Vec<ClientId>, close: &Close<'_>) -> Count {
        for client in &clients {
            self.close(client, close);
        }
        count(clients.len())
    }

    // What clients have.

    pub(super) fn bind(&mut self, client: &ClientId, uid: &str) -> Result<(), Error> {
        self.check_name("uid", uid)?;
        if self.record(client)?.uid.as_deref() == Some(uid) {
            return Ok(());
        }
        let others = self.ids(|record| record.uid.as_deref() == Some(uid));
        match self.uid_policy {
            UidPolicy::RejectNew if !others.is_empty() => {
                return Err(error(
                    ErrorCode::Taken,
                    format!("uid `{uid}` is another client's"),
                ));
            }
            UidPolicy::KickOld => {
                let (code, reason) = KICKED;
                self.close_all(
                    others,
                    &Close {
                        code,
                        reason,
                        last_message: None,
                    },
                );
            }
            UidPolicy::Many | UidPolicy::RejectNew => {
                if self.limits.clients_per_uid > 0 {
                    check_limit(
                        "clients_per_uid",
                        others.len() + 1,
                        self.limits.clients_per_uid,
                    )?;
                }
            }
        }
        self.record(client)?.uid = Some(uid.to_owned());
        Ok(())
    }

    pub(super) fn join(&mut self, client: &ClientId, group: &str) -> Result<(), Error> {
        self.check_name("group", group)?;
        let groups = &self.record(client)?.groups;
        if !groups.contains(group) {
            let wanted = groups.len() + 1;
            check_limit("groups_per_client", wanted, self.limits.groups_per_client)?;
            self.record(client)?.groups.insert(group.to_owned());
        }
        Ok(())
    }

    pub(super) fn set_info(&mut self, client: &ClientId, info: Info) -> Result<(), Error> {
        self.record(client)?;
        let bytes = info
            .iter()
            .map(|(key, value)| key.len() + value.len())
            .sum();
        check_limit("info_bytes", bytes, self.limits.info_bytes)?;
        self.record(client)?.info = info;
        Ok(())
    }

    // Whom a call means.

    /// The client, if it is here.
    pub(super) fn record(&mut self, client: &ClientId) -> Result<&mut Record, Error> {
        check_id(client)?;
        let turn = self.turn.as_ref().filter(|turn| turn.is_last);
        if turn.is_some_and(|turn| turn.client.as_ref() == Some(client)) {
            let message = format!("client `{client}` has left: this is its on-close");
            return Err(error(ErrorCode::Closed, message));
        }
        self.clients.get_mut(client).ok_or_else(|| {
            error(
                ErrorCode::NotFound,
                format!("client `{client}` is not here"),
            )
        })
    }

    pub(super) fn records(&self) -> impl Iterator<Item = (&ClientId, &Record)> {
        self.clients.iter()
    }

    pub(super) fn ids(&self, wanted: impl Fn(&Record) -> bool) -> Vec<ClientId> {
        self.records()
            .filter(|(_, record)| wanted(record))
            .map(|(client, _)| client.clone())
            .collect()
    }

    /// One send: to whom it is, once each, but those in `exclude`.
    pub(super) fn send(
        &mut self,
        message: &Message,
        exclude: &[ClientId],
        wanted: impl Fn(&Record) -> bool,
    ) -> Result<Reach, Error> {
        check_count("clients to exclude", exclude.len())?;
        self.check_message(message)?;
        self.count_send()?;
        let mut reach = Reach::default();
        for (client, record) in self.records() {
            if wanted(record) && !exclude.contains(client) {
                record.receive(message.clone());
                reach.clients += 1;
            }
        }
        Ok(reach)
    }

    pub(super) fn count_send(&mut self) -> Result<(), Error> {
        let limit = self.limits.sends_per_event;
        let turn = self.turn.get_or_insert_default();
        turn.sends += 1;
        let sends = turn.sends;
        check_limit("sends_per_event", sends, limit)
    }

    // Who may call, and how much may pass.

    pub(super) fn check_call(
        &self,
        caller: &Caller,
        depth: usize,
        bytes: usize,
    ) -> Result<(), CallError> {
        if let Caller::Plugin(caller) = caller
            && !self.callers.contains(caller)
        {
            let callee = &self.plugin;
            let message = format!("{callee:?} does not name {caller:?} under [calls] allow");
            return Err(CallError::new(CallErrorCode::Denied, message));
        }
        if depth > CALL_DEPTH {
            let message =
                format!("this is a call within {CALL_DEPTH} others, the most there may be");
            return Err(CallError::new(CallErrorCode::LimitExceeded, message));
        }
        self.check_call_bytes(bytes)
    }

    pub(super) fn check_call_bytes(&self, bytes: usize) -> Result<(), CallError> {
        let checked = check_limit("call_bytes", bytes, self.limits.call_bytes);
        checked.map_err(|error| CallError::new(CallErrorCode::LimitExceeded, error.message))
    }

    // What an argument must be.

    /// A frame: the message and a header of up to ten bytes.
    pub(super) fn check_message(&self, message: &Message) -> Result<(), Error> {
        let bytes = match message {
            Message::Text(text) => text.len(),
            Message::Binary(bytes) => bytes.len(),
        };
        let header = match bytes {
            0..=125 => 2,
            126..=0xffff => 4,
            _ => 10,
        };
        check_limit("outbox_bytes", header + bytes, self.limits.outbox_bytes)
    }

    pub(super) fn check_name(&self, what: &str, name: &str) -> Result<(), Error> {
        if name.is_empty() {
            return Err(invalid(format!("{what}: it is empty")));
        }
        let most = self.limits.name_bytes;
        if name.len() > most {
            return Err(invalid(format!(
                "{what}: {} bytes are more than {most}",
                name.len()
            )));
        }
        Ok(())
    }
}

pub(super) fn count(number: usize) -> Count {
    Count {
        value: number as u64,
        missing: Vec::new(),
    }
}
