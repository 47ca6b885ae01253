"""The gate: two-stage top-K learning to defer over frozen, unequal experts (soft-target form, with costs)."""

import torch
import torch.nn.functional as F
from torch import nn

from .config import EMBEDDING, EXPERTS, MODALITIES, SEED

HIDDEN = 32
EPOCHS = 400
SOFTNESS = 0.05  # of the target softmax(-cost / SOFTNESS)
COMPUTE_PRICE = 0.01  # cost of 100 MMAC, in units of the largest loss
DOWN = 0.15  # how often an expert is masked as unreachable
ORTHOGONAL, SMALL = 1e-2, 1e-4


class Gate(nn.Module):
    """scores = h . rows^T + c, one row per expert, so that a new expert adds a row."""

    def __init__(self):
        super().__init__()
        self.hidden = nn.Linear(EMBEDDING + len(MODALITIES), HIDDEN)
        self.out = nn.Linear(HIDDEN, len(EXPERTS))

    def forward(self, embeddings, presence):
        return self.out(F.relu(self.hidden(torch.cat([embeddings.flatten(1), presence], 1))))


def cost_of(likelihood, macs):
    """[N,E] consultation cost from the probability that each expert gives the truth."""
    loss = -torch.log(likelihood.clamp(1e-6, 1)).clamp(max=4) / 4
    return loss + COMPUTE_PRICE * torch.tensor(macs) / 1e8


def fit(embeddings, presence, eligible, costs, weight):
    torch.manual_seed(SEED)
    gate = Gate()
    optimiser = torch.optim.AdamW(gate.parameters(), lr=5e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, EPOCHS)
    weight = weight / weight.sum()
    for _ in range(EPOCHS):
        up = eligible & (torch.rand(eligible.shape) > DOWN)
        up |= eligible & ~up.any(1, keepdim=True)
        target = torch.softmax((-costs / SOFTNESS).masked_fill(~up, -torch.inf), 1)
        noisy = embeddings + 0.1 * torch.randn_like(embeddings)
        scores = gate(noisy, presence)
        log_share = torch.log_softmax(scores.masked_fill(~up, -1e9), 1)
        rows = F.normalize(gate.out.weight, dim=1)
        twins = (rows @ rows.T - torch.eye(len(rows))).pow(2).mean()
        size = torch.logsumexp(scores, 1).pow(2).mean()
        loss = (weight * -(target * log_share).sum(1)).sum() + ORTHOGONAL * twins + SMALL * size
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    return gate.eval()
