//! Reads the state of a flow's protocol (CTA_PROTOINFO).

use super::Row;
use crate::{
    proposal::{ProposalError, walk::Walk},
    wire::{flow, protoinfo},
};
use flowgate_model::{Sctp, Tcp, field, protocol};

impl Row {
    /// Reads the state of the flow's protocol.
    pub(super) fn protoinfo(&mut self, mut walk: Walk<'_>) -> Result<(), ProposalError> {
        let kind = match self.protocol {
            protocol::TCP => protoinfo::TCP,
            protocol::SCTP => protoinfo::SCTP,
            protocol::DCCP => protoinfo::DCCP,
            // Other protocols have none, so that nothing is asked for.
            _ => return walk.end().and(Err(ProposalError::Superfluous { path: flow::PROTOINFO.into() })),
        };
        let path = walk.path(kind);
        let Some(mut inner) = walk.nest(kind)? else {
            return walk.end().and(Err(ProposalError::Missing { path }));
        };
        if inner.is_done() {
            return Err(ProposalError::Superfluous { path });
        }
        match kind {
            protoinfo::TCP => self.tcp(&mut inner)?,
            protoinfo::SCTP => self.sctp(&mut inner)?,
            _ => self.dccp(&mut inner)?,
        }
        inner.end()?;
        walk.end()
    }

    fn state(&mut self, walk: &mut Walk<'_>, kind: u16) -> Result<(), ProposalError> {
        if let Some([state]) = walk.array(kind)? {
            self.has |= field::STATE;
            self.flows.state = vec![state];
        }
        Ok(())
    }

    fn tcp(&mut self, walk: &mut Walk<'_>) -> Result<(), ProposalError> {
        self.state(walk, protoinfo::TCP_STATE)?;
        let mut tcp = Tcp::default();
        for (bit, kind, column) in [
            (field::ORIGINAL_WINDOW_SCALE, protoinfo::TCP_WSCALE_ORIGINAL, &mut tcp.original_window_scale),
            (field::REPLY_WINDOW_SCALE, protoinfo::TCP_WSCALE_REPLY, &mut tcp.reply_window_scale),
        ] {
            if let Some([scale]) = walk.array(kind)? {
                self.has |= bit;
                column.push(scale);
            }
        }
        for (bit, kind, column) in [
            (field::ORIGINAL_TCP_FLAGS, protoinfo::TCP_FLAGS_ORIGINAL, &mut tcp.original_flags),
            (field::REPLY_TCP_FLAGS, protoinfo::TCP_FLAGS_REPLY, &mut tcp.reply_flags),
        ] {
            if let Some(flags) = walk.array(kind)? {
                self.has |= bit;
                column.push(u16::from_be_bytes(flags));
            }
        }
        self.flows.tcp = (tcp != Tcp::default()).then_some(tcp);
        Ok(())
    }

    fn sctp(&mut self, walk: &mut Walk<'_>) -> Result<(), ProposalError> {
        self.state(walk, protoinfo::SCTP_STATE)?;
        let mut sctp = Sctp::default();
        for (bit, kind, column) in [
            (field::ORIGINAL_VTAG, protoinfo::SCTP_VTAG_ORIGINAL, &mut sctp.original_vtag),
            (field::REPLY_VTAG, protoinfo::SCTP_VTAG_REPLY, &mut sctp.reply_vtag),
        ] {
            if let Some(tag) = walk.array(kind)? {
                self.has |= bit;
                column.push(u32::from_be_bytes(tag));
            }
        }
        self.flows.sctp = (sctp != Sctp::default()).then_some(sctp);
        Ok(())
    }

    fn dccp(&mut self, walk: &mut Walk<'_>) -> Result<(), ProposalError> {
        self.state(walk, protoinfo::DCCP_STATE)?;
        if let Some([role]) = walk.array(protoinfo::DCCP_ROLE)? {
            let handshake = u64::from_be_bytes(walk.required(protoinfo::DCCP_HANDSHAKE_SEQ)?);
            self.has |= field::DCCP;
            let dccp = &mut self.rare().dccp;
            (dccp.rows, dccp.role, dccp.handshake) = (vec![0], vec![role], vec![handshake]);
        }
        Ok(())
    }
}
