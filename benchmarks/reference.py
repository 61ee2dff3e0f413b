"""What ours is measured against: the blocks in the published order of operations, and torch's own Transformer layers.

Written from the papers (CTR-GCN, section 3; MS-G3D's temporal convolution as CTR-GCN uses it). Each takes its weights from one of
our modules, so that both compute the same function; `tests/test_benchmarks.py` holds them to it.

Shapes, as published: N segments, C channels, T frames, V keypoints.
"""

import copy

import torch
from torch import nn
from torch.nn import functional as F


class ReferenceGraphConv(nn.Module):
    """CTR-GC: for each subset project all frames, average, tanh of differences, refine, mix; (N, C, V, T) in and out, as ours."""

    def __init__(self, ours):
        super().__init__()
        num_subsets, out_channels, relation_channels = ours.refine.shape
        in_channels = ours.value.shape[2]
        self.adjacency = nn.Parameter(ours.adjacency.detach().clone())
        self.alpha = nn.Parameter(ours.alpha.detach().clone())
        self.query, self.key, self.value, self.refine = (
            nn.ModuleList(nn.Conv2d(size_in, size_out, 1) for _ in range(num_subsets))
            for size_in, size_out in (
                (in_channels, relation_channels),
                (in_channels, relation_channels),
                (in_channels, out_channels),
                (relation_channels, out_channels),
            )
        )
        with torch.no_grad():
            for subset in range(num_subsets):
                rows = slice(subset * relation_channels, (subset + 1) * relation_channels)
                for theirs, mine in ((self.query, ours.query), (self.key, ours.key)):
                    theirs[subset].weight.copy_(mine.weight[rows, :, :, None])
                    theirs[subset].bias.copy_(mine.bias[rows])
                for theirs, weight, bias in ((self.value, ours.value, ours.value_bias), (self.refine, ours.refine, ours.refine_bias)):
                    theirs[subset].weight.copy_(weight[subset, :, :, None, None])
                    theirs[subset].bias.copy_(bias[subset])
        self.norm, self.residual, self.residual_norm = (copy.deepcopy(m) for m in (ours.norm, ours.residual, ours.residual_norm))

    def forward(self, features):
        features = features.transpose(2, 3)  # (N, C, T, V)
        mixed = 0
        for adjacency, query, key, value, refine in zip(self.adjacency, self.query, self.key, self.value, self.refine):
            relation = torch.tanh(query(features).mean(2)[..., :, None] - key(features).mean(2)[..., None, :])  # (N, R, V, V)
            topology = adjacency + self.alpha * refine(relation)  # (N, C, V, V)
            mixed = mixed + torch.einsum("ncvu,nctu->nctv", topology, value(features))
        return F.relu(self.norm(mixed) + self.residual_norm(self.residual(features))).transpose(2, 3)


class ReferenceTemporalConv(nn.Module):
    """Six branches, each with its own 1 x 1 convolution and norms; (N, C, V, T) in and out, as ours."""

    def __init__(self, ours):
        super().__init__()
        width = ours.out_channels - ours.num_temporal
        slices = [slice(start, start + width) for start in range(0, ours.out_channels, width)]
        self.branches = nn.ModuleList()
        for number, rows in enumerate(slices):
            layers = [_sliced_conv(ours.open, rows), _sliced_norm(ours.open_norm, rows)]
            if rows.start < ours.num_temporal:
                mixer = copy.deepcopy(ours.dilated[number]) if number < len(ours.dilated) else nn.MaxPool2d((1, 3), 1, (0, 1))
                layers += [nn.ReLU(), mixer, _sliced_norm(ours.close_norm, rows)]
            self.branches.append(nn.Sequential(*layers))
        rest = slice(ours.out_channels, 2 * ours.out_channels)
        self.residual = nn.Sequential(_sliced_conv(ours.open, rest), _sliced_norm(ours.open_norm, rest))

    def forward(self, features):
        return F.relu(torch.cat([branch(features) for branch in self.branches], dim=1) + self.residual(features))


class ReferenceDecoderLayer(nn.TransformerDecoderLayer):
    """torch's own, called as ours is; all queries are decoded at once, so there is no mask."""

    def forward(self, hidden, memory, attention_mask=None):
        if attention_mask is not None:
            raise ValueError("Found an attention_mask, expected decoding='parallel'.")
        return super().forward(hidden, memory)


def reference_sign_mae(ours):
    """A copy of a `SignMAE` with the blocks above and `torch.nn.Transformer{Encoder,Decoder}Layer` in the place of ours."""
    config, theirs = ours.config, copy.deepcopy(ours)
    theirs.encoder.graph = ReferenceGraphConv(ours.encoder.graph)
    theirs.encoder.temporal = ReferenceTemporalConv(ours.encoder.temporal)
    sizes = (config.hidden_size, config.num_attention_heads, config.intermediate_size, config.hidden_dropout_prob)
    options = dict(activation=config.hidden_act, layer_norm_eps=config.layer_norm_eps, batch_first=True, norm_first=True)
    for part, kind in ((theirs.encoder, nn.TransformerEncoderLayer), (theirs.decoder, ReferenceDecoderLayer)):
        layers = nn.ModuleList(kind(*sizes, **options) for _ in part.layers)
        for theirs_layer, layer in zip(layers, part.layers):
            _copy_layer(theirs_layer, layer)
        part.layers = layers
    return theirs.train(ours.training)


@torch.no_grad()
def reference_translations(pipe, clips, layout, fps, **decoding):
    """What a `SignToTextPipeline` answered a list before: each clip by itself, and its text read once more for the score."""
    answers = []
    for keypoints in clips:
        inputs = pipe.preprocess(keypoints, layout=layout, fps=fps)
        latents, latent_mask = pipe.model.encode_sequence(inputs["keypoints"], inputs["attention_mask"])
        read = {"latents": latents, "latent_mask": latent_mask}
        ids = pipe.model.generate(**read, **decoding)
        log_prob, num_tokens = pipe.model.score(ids[:, 1:], decoder_input_ids=ids[:, :-1], **read)
        text = pipe.tokenizer.decode(ids[0], skip_special_tokens=True).strip()
        answers.append({"translation_text": text, "score": float(log_prob / num_tokens)})
    return answers


@torch.no_grad()
def reference_signing(model, input_ids, num_segments):
    """What `TextToSign.generate` gave before: every query goes through every layer, then the clip is cut."""
    _, memory, memory_mask = model.encode_text(input_ids)
    return model.decode_sequence(model.predict_latents(memory, memory_mask)[:, :num_segments])[0]


@torch.no_grad()
def _copy_layer(theirs, ours):
    attentions = [(theirs.self_attn, ours.attention)]
    norms = [(theirs.norm1, ours.attention_norm)]
    if ours.has_memory:
        attentions.append((theirs.multihead_attn, ours.cross_attention))
        norms.append((theirs.norm2, ours.cross_attention_norm))
    norms.append((theirs.norm3 if ours.has_memory else theirs.norm2, ours.feed_forward_norm))
    for attention, source in attentions:
        projections = (source.q_proj, source.k_proj, source.v_proj)
        attention.in_proj_weight.copy_(torch.cat([projection.weight for projection in projections]))
        attention.in_proj_bias.copy_(torch.cat([projection.bias for projection in projections]))
        attention.out_proj.load_state_dict(source.o_proj.state_dict())
    for norm, source in norms:
        norm.load_state_dict(source.state_dict())
    theirs.linear1.load_state_dict(ours.up_proj.state_dict())
    theirs.linear2.load_state_dict(ours.down_proj.state_dict())


@torch.no_grad()
def _sliced_conv(conv, rows):
    out = nn.Conv2d(conv.in_channels, rows.stop - rows.start, 1, bias=conv.bias is not None)
    out.weight.copy_(conv.weight[rows])
    if conv.bias is not None:
        out.bias.copy_(conv.bias[rows])
    return out


@torch.no_grad()
def _sliced_norm(norm, rows):
    out = type(norm)(rows.stop - rows.start, eps=norm.eps, momentum=norm.momentum)
    for name in ("weight", "bias", "running_mean", "running_var"):
        getattr(out, name).copy_(getattr(norm, name)[rows])
    return out
