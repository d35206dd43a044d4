"""GNN-CNN (Zhang et al., ICME 2019): the body beside an affective graph of the scene's region proposals."""

import torch
from torch import Tensor, nn
from torchvision.ops import roi_align

from clef.config import GnnCnnConfig
from clef.data.batch_memory import Batch
from clef.models.backbone import Backbone, WeightLoader
from clef.models.encoders import ResNetEncoder, Vgg16Encoder, scaled
from clef.models.graph import GEOMETRY_SIZE, box_geometry, masked_mean, normalize_adjacency, valid_boxes

BINS = 3
"""Each region is sampled at 3 x 3 positions of the map."""


class GnnCnn(Backbone):
    """VGG-16 on the body -> 512; a graph of regions -> 512; joined, 1024.

    The paper names VGG-16, proposals as nodes and a graph convolutional network. Chosen here: a node is the mean of
    its region in the third stage's map (stride 16) of a ResNet-18 on the whole image, beside the box's geometry.
    """

    def build(self, config: GnnCnnConfig, load: WeightLoader) -> None:
        """Make both encoders, the nodes and the graph."""
        dim = scaled(512, config.width)
        self.feature_dim = 2 * dim
        self.body = Vgg16Encoder(config.width, config.dropout)
        self.scene = ResNetEncoder("resnet18", config.width)
        load("body", self.body)
        load("scene", self.scene)
        self.scene.layer4 = nn.Sequential()  # regions are read from the map before it
        self.body_feature = nn.Sequential(nn.Linear(self.body.dim, dim), nn.ReLU())
        self.node = nn.Sequential(nn.Linear(scaled(256, config.width) + GEOMETRY_SIZE, dim), nn.ReLU())
        self.graph = AffectiveGraph(dim, config.layers)
        self.dropout = nn.Dropout(config.dropout)

    def features(self, batch: Batch) -> Tensor:
        """Return the joint feature, B,1024, of `body` B,3,H,W, `scene` B,3,H',W' and `regions` B,N,4 (0-1)."""
        body = self.body_feature(self.body(batch["body"]))
        regions = batch["regions"]
        nodes = self.node(torch.cat([self._pool_regions(batch["scene"], regions), box_geometry(regions)], -1))
        joint: Tensor = self.dropout(torch.cat([body, self.graph(nodes, valid_boxes(regions))], dim=1))
        return joint

    def _pool_regions(self, scene: Tensor, regions: Tensor) -> Tensor:
        """Return B,N,256: the scene's map averaged over each of the `regions` B,N,4."""
        map_ = self.scene.stem(scene)
        for number in (1, 2, 3):
            map_ = self.scene.stage(number)(map_)
        height, width = map_.shape[-2:]
        boxes = regions * regions.new_tensor([width, height, width, height])
        pooled: Tensor = roi_align(map_.float(), list(boxes.float()), BINS, aligned=True)
        return pooled.mean(dim=(2, 3)).view(*regions.shape[:2], -1)


class AffectiveGraph(nn.Module):
    """Graph convolutions over a dense learned affinity, and the mean of the nodes: B,N,D and B,N bool to B,D.

    Chosen here: the affinity of two nodes is the sigmoid of the dot product of their keys, plus a loop on each node,
    and every convolution adds to its input, without which six over a dense graph make all nodes alike.
    """

    def __init__(self, dim: int, layers: int) -> None:
        super().__init__()
        self.key = nn.Linear(dim, dim)
        self.layers = nn.ModuleList(nn.Linear(dim, dim) for _ in range(layers))

    def forward(self, nodes: Tensor, valid: Tensor) -> Tensor:
        """Return the mean, B,D, of the valid nodes after all convolutions; zeros where no node is valid."""
        edges = self.edges(nodes, valid)
        for layer in self.layers:
            nodes = nodes + (edges @ layer(nodes)).relu()
        return masked_mean(nodes, valid)

    def edges(self, nodes: Tensor, valid: Tensor) -> Tensor:
        """Return the normalized affinity, B,N,N, of nodes B,N,D; rows and columns of padding are zeros."""
        key = self.key(nodes)
        affinity = (key @ key.mT * key.shape[-1] ** -0.5).sigmoid()
        affinity = affinity + torch.eye(nodes.shape[1], dtype=affinity.dtype, device=affinity.device)
        return normalize_adjacency(affinity * (valid[:, :, None] & valid[:, None, :]))
