//! A plugin that also imports what no node serves: it must not load, and the message must
//! name the interface.

use jackfield_sdk::{ClientId, Message, Plugin};

#[cfg(target_family = "wasm")]
mod billing {
    wit_bindgen::generate!({
        inline: "
            package acme:shop;

            world shop {
                import acme:billing/invoices@1.0.0;
            }

            package acme:billing@1.0.0 {
                interface invoices {
                    open: func(customer: string) -> u64;
                }
            }
        ",
        generate_all,
    });
}

struct WantsBilling;

impl Plugin for WantsBilling {
    fn on_message(client: ClientId, _: Message) {
        open_invoice(client.as_str());
    }
}

jackfield_sdk::export!(WantsBilling);

/// An import stays in the component only where something calls it.
#[cfg(target_family = "wasm")]
fn open_invoice(customer: &str) {
    billing::acme::billing::invoices::open(customer);
}

#[cfg(not(target_family = "wasm"))]
fn open_invoice(_customer: &str) {}
