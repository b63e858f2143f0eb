//! A client's session with its plugin. The client's events come one at a time and in order.
//!
//! The events go to the generation that runs on this node. If none does, they go to a node that
//! runs the plugin (`gateway.rs`).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::answer::{Answer, Decision, Failure};
use super::canary_member::CanaryMember;
use super::gateway::Gateway;
use super::generation::Generation;
use super::handle::{Choose, Plugin};
use super::lease::Lease;
use super::recorded_handshake::recorded;
use super::slot::Slot;
use crate::access::Handshake;
use crate::guest::{EventClient, GuestFunction};
use crate::live_trace::{Step, TraceEvent};
use crate::message::Message;
use crate::message_queue::MessageQueue;
use crate::registry::{Client, Close, Departure};
use crate::tracer::{ClientTrace, Span, within};

/// A client's session with its plugin, up to the end of the client's `on-close`.
pub struct Session {
    plugin: Arc<Plugin>,
    /// The node that has the client's events if the plugin does not run here; 0 if there is none
    /// yet.
    worker: AtomicU64,
    /// What the client has to do with canaries.
    member: CanaryMember,
    /// The spans of the client, if it has any.
    trace: Option<Box<ClientTrace>>,
}

/// A client's turn, in which its waiting messages go through one instance, one after another.
pub struct Turn<'a> {
    session: &'a Session,
    lease: Option<Lease>,
    events: u64,
    /// How many calls took several messages.
    turns: u64,
    /// The generation at another node that has handled the last message, if one has.
    elsewhere: Option<u64>,
}

impl Plugin {
    /// Begins a client's session with the plugin.
    pub fn session(self: &Arc<Self>, trace: Option<Box<ClientTrace>>) -> Session {
        if let Some(trace) = &trace {
            trace
                .client()
                .set("jackfield.plugin", self.name().to_owned());
        }
        self.sessions.fetch_add(1, Ordering::Relaxed);
        Session {
            plugin: self.clone(),
            worker: AtomicU64::new(0),
            member: CanaryMember::default(),
            trace,
        }
    }

    /// Begins the session of a client that was at another node, whose first handshake has shown this
    /// uid.
    pub fn session_of_adopted(self: &Arc<Self>, client: &Client, uid: Option<&str>) -> Session {
        let session = self.session(None);
        session.member.set_place(client.id(), uid);
        session
    }
}

impl Session {
    /// Returns the plugin that the client is connected to.
    pub fn plugin(&self) -> &Arc<Plugin> {
        &self.plugin
    }

    /// Asks the plugin whether a client may come in, and applies what the plugin accepts the client
    /// with.
    ///
    /// # Errors
    ///
    /// The plugin runs nowhere, is overloaded or trapped, or the handshake is too large for another
    /// node. The node that got the handshake may also go away, or not answer in time.
    pub async fn on_connect(
        &self,
        client: &Arc<Client>,
        handshake: &Handshake,
    ) -> Result<Answer, Failure> {
        let (span, began) = (self.event_span("on-connect"), Instant::now());
        let shared = self.plugin.namespace().shared();
        shared.trace_connecting(self.plugin.name(), client, || recorded(handshake));
        if let Some(trace) = &self.trace {
            trace
                .client()
                .set("jackfield.client", client.id_text().to_owned());
        }
        let mut generation = None;
        let answered = async {
            let decided = match self
                .plugin
                .decide(
                    EventClient::Local(client),
                    handshake,
                    &self.member,
                    &self.plugin.canary_clients,
                )
                .await
            {
                Err(Failure::Absent) => self.gateway().decide(client.id(), handshake).await,
                decided => decided,
            };
            let (decision, number) = decided?;
            generation = number;
            Ok(match decision {
                Decision::TurnedAway(answer) => answer,
                Decision::Accepted(acceptance, granted) => {
                    let plugin = &self.plugin;
                    let admitted = plugin.admit(client, acceptance, handshake, granted, generation);
                    admitted.await
                }
            })
        };
        let answered = within(span.as_ref(), answered).await;
        let failure = answered.as_ref().err();
        let refused = match &answered {
            Ok(Answer::Accepted(_)) | Err(_) => None,
            Ok(refused) => Some(refused.status()),
        };
        self.trace_event("on-connect", client, began, generation, failure, refused);
        if refused.is_some() || failure.is_some() {
            shared.live_traces().forget(client.id());
        }
        if let Some(span) = &span {
            match &answered {
                Ok(Answer::Accepted(_)) => {}
                Ok(refused) => span.set("jackfield.refused", refused.status().to_string()),
                Err(failure) => show_failure(span, *failure),
            }
        }
        answered
    }

    /// Shows an event that has ended to whoever watches the client.
    fn trace_event(
        &self,
        function: &'static str,
        client: &Client,
        began: Instant,
        generation: Option<u64>,
        failure: Option<&Failure>,
        refused: Option<u16>,
    ) {
        self.plugin.namespace().shared().trace(client, |_| {
            let duration = began.elapsed().as_micros();
            Step::Event(TraceEvent {
                function: function.to_owned(),
                generation,
                duration_us: u64::try_from(duration).unwrap_or(u64::MAX),
                failure: failure.map(ToString::to_string),
                refused: refused.map(u32::from),
            })
        });
    }

    /// Whether somebody sees each message of the client: a reader of a live trace, or a collector of
    /// spans.
    fn is_watched(&self, client: &Client) -> bool {
        client.is_traced() || self.trace.as_ref().is_some_and(|trace| trace.is_recorded())
    }

    /// Begins the span of an event that the client has once, if the client has spans.
    fn event_span(&self, function: &'static str) -> Option<Span> {
        self.trace.as_ref().map(|trace| trace.event(function))
    }

    /// Tells the plugin that a client has left. An `on-close` waits longer for an instance than
    /// other events, since the plugin must get it.
    pub async fn on_close(&self, client: &Arc<Client>, departure: &Departure) {
        let (span, began) = (self.event_span("on-close"), Instant::now());
        if let Some(trace) = &self.trace {
            let Close { code, by, .. } = &departure.close;
            trace
                .client()
                .set_number("jackfield.close_code", u16::from(*code));
            trace.client().set("jackfield.closed_by", by.as_str());
        }
        let mut generation = None;
        let told = within(span.as_ref(), async {
            match self
                .plugin
                .tell_on_close(EventClient::Local(client), departure, &|slot| {
                    self.choose(slot, client)
                })
                .await
            {
                Err(Failure::Absent) => {
                    let told = self.gateway().close(client.id(), departure).await;
                    told.map(|number| generation = number)
                }
                told => told.map(|number| generation = Some(number)),
            }
        });
        let told = told.await;
        let failure = told.as_ref().err();
        self.trace_event("on-close", client, began, generation, failure, None);
        self.plugin
            .namespace()
            .shared()
            .live_traces()
            .forget(client.id());
        if let (Some(span), Err(failure)) = (&span, &told) {
            show_failure(span, *failure);
        }
        let why = match told {
            // A trap has been logged.
            Ok(()) | Err(Failure::Trapped(_)) => return,
            Err(Failure::Absent | Failure::Lost) => "the plugin has no generation",
            Err(Failure::Overloaded | Failure::Paused(_)) => {
                "no instance was to be had within drain_timeout"
            }
            Err(Failure::TooLarge) => "it is too large to go to another node",
        };
        let registry = self.plugin.namespace().shared();
        registry.counters().on_close_lost.add_one();
        let (plugin, client) = (self.plugin.name(), client.id());
        tracing::error!(plugin, %client, "an on-close is lost: {why}");
    }

    fn gateway(&self) -> Gateway<'_> {
        Gateway::new(&self.plugin, &self.worker, &self.member)
    }

    /// Chooses the generation of the client's next event.
    fn choose<'s>(
        &self,
        slot: &'s Slot<Generation>,
        client: &Client,
    ) -> Option<&'s Arc<Generation>> {
        // Most of the time there is none.
        match slot.canary() {
            Some(canary) if self.is_for(canary, client) => Some(canary),
            _ => slot.generation(),
        }
    }

    #[cold]
    fn is_for(&self, canary: &Generation, client: &Client) -> bool {
        let uid = || self.plugin.namespace().uid(client.id()).ok().flatten();
        let (member, clients) = (&self.member, &self.plugin.canary_clients);
        let canary = canary.serving_canary();
        canary.is_some_and(|canary| member.is_in(&canary, client.id(), uid, clients))
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // Before somebody who waits for the last session ends what takes its span.
        self.trace = None;
        self.plugin.canary_clients.left(self.member.joined());
        self.plugin.sessions.fetch_sub(1, Ordering::Relaxed);
        self.plugin.session_ended.notify_one();
    }
}

impl<'a> Turn<'a> {
    /// Begins a client's turn, which handles its waiting messages.
    pub fn new(session: &'a Session) -> Turn<'a> {
        Turn {
            session,
            lease: None,
            events: 0,
            turns: 0,
            elsewhere: None,
        }
    }

    /// Handles one message, on the generation that runs now.
    ///
    /// # Errors
    ///
    /// The plugin runs nowhere, is overloaded or trapped, or the message is too large for another
    /// node. The node that got the message may also go away, or not answer in time.
    pub async fn on_message(
        &mut self,
        client: &Arc<Client>,
        message: Message<'_>,
    ) -> Result<(), Failure> {
        // Boxed: no turn of a client that nobody watches carries it.
        match (self.session.is_watched(client), &self.session.trace) {
            (true, _) => Box::pin(self.handle_watched(client, message)).await,
            (false, Some(trace)) => {
                Box::pin(within(Some(trace.client()), self.handle(client, message))).await
            }
            (false, None) => self.handle(client, message).await,
        }
    }

    async fn handle_watched(
        &mut self,
        client: &Arc<Client>,
        message: Message<'_>,
    ) -> Result<(), Failure> {
        const FUNCTION: &str = "on-message";
        let (session, began) = (self.session, Instant::now());
        let trace = session.trace.as_ref().filter(|trace| trace.is_recorded());
        let span = trace.map(|trace| trace.message(FUNCTION, message.payload().len()));
        // A context that is not recorded is passed on.
        let around = span
            .as_ref()
            .or(session.trace.as_ref().map(|trace| trace.client()));
        let handled = within(around, self.handle(client, message)).await;
        let failure = handled.as_ref().err();
        let here = self.lease.as_ref().map(|lease| lease.generation.number);
        let generation = here.or(self.elsewhere);
        session.trace_event(FUNCTION, client, began, generation, failure, None);
        if let Some(span) = &span {
            // The instance may be one that an earlier message of the turn has got.
            if let Some(lease) = &self.lease {
                lease.show_in(span);
            }
            if let Err(failure) = handled {
                show_failure(span, failure);
            }
        }
        handled
    }

    async fn handle(&mut self, client: &Arc<Client>, message: Message<'_>) -> Result<(), Failure> {
        self.events += 1;
        let lease = match self.lease(client).await {
            Err(Failure::Absent) => {
                // Boxed: no turn of a plugin that runs here carries it.
                let gateway = self.session.gateway();
                let handled = Box::pin(gateway.message(client.id(), message)).await;
                self.elsewhere = handled.ok().flatten();
                return handled.map(drop);
            }
            lease => lease?,
        };
        let handled = lease
            .instance
            .on_message(EventClient::Local(client), message);
        match handled.await {
            Ok(()) => Ok(()),
            Err(trapped) => {
                Err(lease.client_event_trapped(GuestFunction::Message, client.id(), &trapped))
            }
        }
    }

    /// Returns how many waiting messages of the client the plugin takes in one call. Somebody who
    /// watches the client sees them one by one.
    pub fn messages_at_once(&self, client: &Client) -> usize {
        if self.session.is_watched(client) {
            return 1;
        }
        let slot = self.session.plugin.slot();
        let generation = self.session.choose(&slot, client);
        let generation = generation.filter(|generation| generation.pool.takes_turns());
        generation.map_or(1, |generation| generation.limits().messages_per_turn)
    }

    /// Handles waiting messages, one at least, on the generation that runs now. Messages may be
    /// left: a new generation has taken over, the client has left, or does not read what it is sent.
    ///
    /// # Errors
    ///
    /// The errors are those of `on_message`. The message that an error is about has left the queue.
    pub async fn on_messages(
        &mut self,
        client: &Arc<Client>,
        queue: &mut MessageQueue,
    ) -> Result<(), Failure> {
        match &self.session.trace {
            None => self.handle_all(client, queue).await,
            Some(trace) => {
                Box::pin(within(Some(trace.client()), self.handle_all(client, queue))).await
            }
        }
    }

    async fn handle_all(
        &mut self,
        client: &Arc<Client>,
        queue: &mut MessageQueue,
    ) -> Result<(), Failure> {
        if queue.len() > 1 && !self.session.is_watched(client) {
            match self.lease(client).await {
                Ok(lease) if lease.instance.takes_turns() => {
                    let turn = lease.instance.on_turn(EventClient::Local(client), queue);
                    let (events, ended) = turn.await;
                    let ended = ended.map_err(|trapped| {
                        lease.client_event_trapped(GuestFunction::Message, client.id(), &trapped)
                    });
                    self.events += u64::from(events);
                    self.turns += 1;
                    return ended;
                }
                Ok(_) | Err(Failure::Absent) => {}
                Err(failure) => {
                    self.events += 1;
                    queue.pop();
                    return Err(failure);
                }
            }
        }
        let handled = match queue.first() {
            Some(first) => self.on_message(client, first).await,
            None => Ok(()),
        };
        queue.pop();
        handled
    }

    /// Returns an instance of the generation that the client's next event is for.
    async fn lease(&mut self, client: &Arc<Client>) -> Result<&mut Lease, Failure> {
        let session = self.session;
        let is_current = |lease: &Lease| {
            let slot = session.plugin.slot();
            let chosen = session.choose(&slot, client);
            lease.instance.is_usable()
                && chosen.is_some_and(|chosen| Arc::ptr_eq(chosen, &lease.generation))
        };
        if !self.lease.as_ref().is_some_and(is_current) {
            self.lease = None;
            let choose: Choose<'_> = &|slot| session.choose(slot, client);
            self.lease = Some(session.plugin.lease(choose).await?);
        }
        self.lease.as_mut().ok_or(Failure::Absent)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let plugin = &self.session.plugin;
        let counters = plugin.namespace().shared().counters();
        counters.messages_in.add(self.events);
        if self.turns > 0 {
            counters.turns.add(self.turns);
        }
    }
}

/// Marks a span as failed. What a trap was is said where it is logged.
fn show_failure(span: &Span, failure: Failure) {
    if !matches!(failure, Failure::Trapped(_)) {
        span.fail(&failure.to_string());
    }
}

impl Plugin {
    /// Runs `on-close` in a generation that runs on this node, and returns its number.
    pub(super) async fn tell_on_close(
        &self,
        client: EventClient<&Arc<Client>>,
        departure: &Departure,
        choose: Choose<'_>,
    ) -> Result<u64, Failure> {
        let patience = self.namespace().shared().limits().drain_timeout;
        let mut lease = match tokio::time::timeout(patience, self.lease_patiently(choose)).await {
            Ok(Some(lease)) => lease,
            Ok(None) => return Err(Failure::Absent),
            Err(_) => return Err(Failure::Overloaded),
        };
        match lease.instance.on_close(client, departure).await {
            Ok(()) => Ok(lease.generation.number),
            Err(trapped) => {
                Err(lease.client_event_trapped(GuestFunction::Close, client.id(), &trapped))
            }
        }
    }
}
